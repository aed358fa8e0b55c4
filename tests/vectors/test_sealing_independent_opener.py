"""The blob format, opened and written again by code that shares nothing with ours but this page's reading of it.

HPKE is spelt out from RFC 9180 (§5.1 base mode, HKDF-SHA256, AES-256-GCM) over the KEM MLKEM768-X25519 (X-Wing's
combiner, KEM id 0x647a); lengths, labels and nonces are written out again from the format's description. From the
library come ML-KEM, X25519, Ed25519 and AES-GCM only.
"""

import hmac
import json
import os
from hashlib import sha3_256, sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import protocol.layout
from protocol.keys import SealingKey, SealingPublicKey, SigningKey, VerifyingKey
from protocol.layout import Layout, Role, Tensor
from protocol.sealing import (
    BlobHeader,
    BlobKind,
    BlobReader,
    BlobWriter,
    ContentKey,
    MemoryBytes,
    wrap_content_key,
)

DATA = Path(__file__).parent / "data" / "sealing"
SUITE = b"HPKE" + bytes.fromhex("647a00010002")


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def labelled(label: bytes, *fields: bytes) -> bytes:
    return b"".join((u32(len(label)), label, u32(len(fields)), *(u32(len(f)) + f for f in fields)))


def extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.new(salt or bytes(32), b"HPKE-v1" + SUITE + label + material, sha256).digest()


def expand(secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled_info = size.to_bytes(2, "big") + b"HPKE-v1" + SUITE + label + info
    return hmac.new(secret, labelled_info + b"\x01", sha256).digest()[:size]


def schedule(shared: bytes, info: bytes) -> tuple[AESGCM, bytes]:
    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return AESGCM(expand(secret, b"key", context, 32)), expand(secret, b"base_nonce", context, 12)


def combine(mlkem: bytes, x25519: bytes, ciphertext: bytes, public: bytes) -> bytes:
    return sha3_256(mlkem + x25519 + ciphertext + public + rb"\.//^" + b"\\").digest()


def hpke_open(seed: bytes, wrapped: bytes, info: bytes) -> bytes:
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(seed[:64]), X25519PrivateKey.from_private_bytes(seed[64:])
    first, second, sealed = wrapped[:1088], wrapped[1088:1120], wrapped[1120:]
    exchanged = x25519.exchange(X25519PublicKey.from_public_bytes(second))
    shared = combine(mlkem.decapsulate(first), exchanged, second, x25519.public_key().public_bytes_raw())
    cipher, nonce = schedule(shared, info)
    return cipher.decrypt(nonce, sealed, b"")


def hpke_seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    secret, first = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    ephemeral = X25519PrivateKey.generate()
    second = ephemeral.public_key().public_bytes_raw()
    exchanged = ephemeral.exchange(X25519PublicKey.from_public_bytes(public[1184:]))
    cipher, nonce = schedule(combine(secret, exchanged, second, public[1184:]), info)
    return first + second + cipher.encrypt(nonce, plaintext, b"")


class Opened(NamedTuple):
    header: dict[str, object]
    metadata: bytes
    chunks: list[bytes]
    digest: bytes


def independent_open(blob: bytes, sizes: list[int], seed: bytes, verifying_key: bytes) -> Opened:
    assert blob.startswith(b"strongroom-blob/1\n")
    place = 18
    parts = []
    for _ in range(2):
        size = int.from_bytes(blob[place : place + 4], "big")
        parts.append(blob[place + 4 : place + 4 + size])
        place += 4 + size
    header, wrap = parts
    segments = []
    for size in (4096, *sizes):
        segments.append(blob[place : place + size + 16])
        place += size + 16
    signature = blob[place:]
    tags = b"".join(segment[-16:] for segment in segments)
    message = labelled(b"strongroom/blob/v1", header, wrap, tags)
    Ed25519PublicKey.from_public_bytes(verifying_key).verify(signature, message)
    bound = sha256(header).digest()
    cipher = AESGCM(hpke_open(seed, wrap, labelled(b"strongroom/wrap/v1", bound)))
    opened = []
    for counter, segment in enumerate(segments):
        nonce = counter.to_bytes(11, "big") + (b"\x01" if counter == len(sizes) else b"\x00")
        opened.append(cipher.decrypt(nonce, segment, bound))
    length = int.from_bytes(opened[0][:4], "big")
    assert not any(opened[0][4 + length :])
    digest = sha256(labelled(b"strongroom/blob-digest/v1", header, wrap, tags)).digest()
    return Opened(json.loads(header), opened[0][4 : 4 + length], opened[1:], digest)


def independent_seal(header: bytes, metadata: bytes, chunks: list[bytes], public: bytes, signing_seed: bytes) -> bytes:
    bound = sha256(header).digest()
    key = os.urandom(32)
    wrap = hpke_seal(public, key, labelled(b"strongroom/wrap/v1", bound))
    plaintexts = [(u32(len(metadata)) + metadata).ljust(4096, b"\0"), *chunks]
    segments = []
    for counter, plaintext in enumerate(plaintexts):
        nonce = counter.to_bytes(11, "big") + (b"\x01" if counter == len(chunks) else b"\x00")
        segments.append(AESGCM(key).encrypt(nonce, plaintext, bound))
    tags = b"".join(segment[-16:] for segment in segments)
    signature = Ed25519PrivateKey.from_private_bytes(signing_seed).sign(
        labelled(b"strongroom/blob/v1", header, wrap, tags)
    )
    prelude = b"strongroom-blob/1\n" + u32(len(header)) + header + u32(len(wrap)) + wrap
    return prelude + b"".join(segments) + signature


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(protocol.layout, "CHUNK_COORDINATES", 16)
    return Layout(
        tensors=(
            Tensor(name="weight", shape=(5, 7), dtype="float32", role=Role.PARAMETER),
            Tensor(name="seen", shape=(), dtype="int64", role=Role.BUFFER),
        )
    )


@pytest.fixture
def header(layout: Layout) -> BlobHeader:
    return BlobHeader(
        kind=BlobKind.UPDATE,
        agreement=b"a" * 32,
        origin="simulated.example/log",
        boot_id=b"b" * 32,
        round=3,
        attempt=1,
        sender="zurich",
        upload_id=b"u" * 16,
        base_model=b"m" * 32,
        layout=layout.digest,
        encoding="float32",
        parent=None,
    )


def ours(
    layout: Layout, header: BlobHeader, plaintexts: list[bytes], recipient: SealingPublicKey
) -> tuple[bytes, bytes]:
    sink, key = MemoryBytes(), ContentKey.fresh(os.urandom)
    wrap = wrap_content_key(key, header, recipient)
    writer = BlobWriter(header, layout.update_chunks, sink, key, wrap, b"metadata")
    for position, plaintext in enumerate(plaintexts):
        writer.seal_chunk(position, plaintext)
    digest = writer.finish(SigningKey(b"s" * 32))
    return bytes(sink), digest


def test_an_independent_opener_reads_our_blob(layout: Layout, header: BlobHeader) -> None:
    seed = os.urandom(96)
    sizes = [chunk.size_bytes for chunk in layout.update_chunks]
    plaintexts = [os.urandom(size) for size in sizes]
    blob, digest = ours(layout, header, plaintexts, SealingKey(seed).public)
    opened = independent_open(blob, sizes, seed, SigningKey(b"s" * 32).public.raw)
    assert opened.chunks == plaintexts
    assert opened.metadata == b"metadata"
    assert opened.digest == digest
    assert opened.header == {
        "kind": "update",
        "agreement": "sha256:" + "61" * 32,
        "origin": "simulated.example/log",
        "boot_id": "62" * 32,
        "round": 3,
        "attempt": 1,
        "sender": "zurich",
        "upload_id": "75" * 16,
        "base_model": "sha256:" + "6d" * 32,
        "layout": "sha256:" + layout.digest.hex(),
        "encoding": "float32",
        "parent": None,
    }


def test_an_independent_opener_does_not_read_it_with_another_key(layout: Layout, header: BlobHeader) -> None:
    sizes = [chunk.size_bytes for chunk in layout.update_chunks]
    blob, _ = ours(layout, header, [bytes(size) for size in sizes], SealingKey(os.urandom(96)).public)
    with pytest.raises(InvalidTag):
        independent_open(blob, sizes, os.urandom(96), SigningKey(b"s" * 32).public.raw)


def test_our_reader_opens_an_independent_blob(layout: Layout, header: BlobHeader) -> None:
    recipient = SealingKey(os.urandom(96))
    plaintexts = [os.urandom(chunk.size_bytes) for chunk in layout.update_chunks]
    blob = independent_seal(header.encode(), b"metadata", plaintexts, recipient.public.raw, b"s" * 32)
    assert open_ours(layout, blob, recipient, SigningKey(b"s" * 32).public) == (b"metadata", plaintexts)


def test_a_blob_of_the_first_version_still_opens(layout: Layout) -> None:
    """`blob-1.bin` was written once and is never written again: the format does not drift."""
    secrets = json.loads((DATA / "blob-1.json").read_text())
    blob = (DATA / "blob-1.bin").read_bytes()
    recipient = SealingKey(bytes.fromhex(secrets["sealing_seed"]))
    sender = VerifyingKey.parse(secrets["sender"])
    plaintexts = [bytes.fromhex(chunk) for chunk in secrets["chunks"]]
    assert open_ours(layout, blob, recipient, sender) == (secrets["metadata"].encode(), plaintexts)
    reader = BlobReader(MemoryBytes(blob), layout.update_chunks)
    assert reader.authenticate(sender).hex() == secrets["digest"]


def open_ours(layout: Layout, blob: bytes, recipient: SealingKey, sender: VerifyingKey) -> tuple[bytes, list[bytes]]:
    reader = BlobReader(MemoryBytes(blob), layout.update_chunks)
    reader.authenticate(sender)
    key = reader.unwrap(recipient)
    chunks = []
    for position, chunk in enumerate(layout.update_chunks):
        out = bytearray(chunk.size_bytes)
        reader.open_chunk(position, key, memoryview(out))
        chunks.append(bytes(out))
    return reader.open_metadata(key), chunks
