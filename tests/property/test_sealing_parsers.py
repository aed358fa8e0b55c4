"""Whatever bytes come, parsers answer with their own errors, and no changed blob opens as if it were whole."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.errors import MalformedError, RefusedError, SignatureError
from protocol.keys import SealingKey, SigningKey
from protocol.layout import Chunk, Layout, Role, Tensor
from protocol.sealing import (
    BlobHeader,
    BlobKind,
    BlobReader,
    BlobWriter,
    ContentKey,
    MemoryBytes,
    ModelKey,
    wrap_content_key,
)
from protocol.sealing.geometry import METADATA_LIMIT_BYTES, pad_metadata, unpad_metadata
from protocol.signed import sign_message
from protocol.update import UpdateMetadata

SIGNER = SigningKey(b"s" * 32)
RECIPIENT = SealingKey(b"z" * 96)
LAYOUT = Layout(
    tensors=(
        Tensor(name="weight", shape=(3,), dtype="float32", role=Role.PARAMETER),
        Tensor(name="seen", shape=(), dtype="int64", role=Role.BUFFER),
    )
)
CHUNKS: tuple[Chunk, ...] = tuple(LAYOUT.update_chunks)
HEADER = BlobHeader(
    kind=BlobKind.UPDATE,
    agreement=b"a" * 32,
    origin="simulated.example/log",
    boot_id=b"b" * 32,
    round=3,
    attempt=1,
    sender="zurich",
    upload_id=b"u" * 16,
    base_model=b"m" * 32,
    layout=LAYOUT.digest,
    encoding="float32",
    parent=None,
)


def sealed() -> bytes:
    key, sink = ContentKey(b"k" * 32), MemoryBytes()
    writer = BlobWriter(HEADER, CHUNKS, sink, key, wrap_content_key(key, HEADER, RECIPIENT.public), b"metadata")
    for position, chunk in enumerate(CHUNKS):
        writer.seal_chunk(position, bytes([position + 1]) * chunk.size_bytes)
    writer.finish(SIGNER)
    return bytes(sink)


BLOB = sealed()
metrics = st.dictionaries(
    st.from_regex(r"[a-z0-9_.-]{1,63}", fullmatch=True), st.floats(allow_nan=False, allow_infinity=False), max_size=32
)
identifiers = st.binary(min_size=32, max_size=32)


def open_all(data: bytes) -> tuple[bytes, list[bytes]]:
    reader = BlobReader(MemoryBytes(data), CHUNKS)
    reader.authenticate(SIGNER.public)
    key = reader.unwrap(RECIPIENT)
    chunks = []
    for position, chunk in enumerate(CHUNKS):
        out = bytearray(chunk.size_bytes)
        reader.open_chunk(position, key, memoryview(out))
        chunks.append(bytes(out))
    return reader.open_metadata(key), chunks


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_bytes_are_malformed(data: bytes) -> None:
    for parse in (
        lambda: BlobReader(MemoryBytes(data), CHUNKS),
        lambda: BlobReader(MemoryBytes(b"strongroom-blob/1\n" + data), CHUNKS),
        lambda: BlobHeader.parse(data),
        lambda: UpdateMetadata.parse(data),
        lambda: unpad_metadata(data),
    ):
        with pytest.raises(MalformedError):
            parse()


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_messages_are_no_model_key(data: bytes) -> None:
    with pytest.raises((MalformedError, SignatureError)):
        ModelKey.parse(data, SIGNER.public)
    with pytest.raises(MalformedError):
        ModelKey.parse(sign_message(SIGNER, "strongroom/model-key/v1", data), SIGNER.public)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_bit_anywhere_never_opens(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(BLOB) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = BLOB[:place] + bytes([BLOB[place] ^ 1 << bit]) + BLOB[place + 1 :]
    with pytest.raises((MalformedError, SignatureError, RefusedError)):
        open_all(changed)


def test_a_changed_bit_outside_the_ciphertexts_is_found_by_authentication() -> None:
    """Every byte of header, wrap, tags and signature."""
    places = set(range(len(BLOB)))
    end = len(BLOB) - 64
    for size in reversed((4096, *(chunk.size_bytes for chunk in CHUNKS))):
        end -= size + 16
        places -= set(range(end, end + size))
    for place in places:
        changed = BLOB[:place] + bytes([BLOB[place] ^ 1]) + BLOB[place + 1 :]
        with pytest.raises((MalformedError, SignatureError, RefusedError)):
            BlobReader(MemoryBytes(changed), CHUNKS).authenticate(SIGNER.public)


@given(cut=st.integers(0, len(BLOB)), insert=st.binary(max_size=40), skip=st.integers(0, 40))
@settings(deadline=None)
def test_a_splice_never_opens(cut: int, insert: bytes, skip: int) -> None:
    changed = BLOB[:cut] + insert + BLOB[cut + skip :]
    if changed == BLOB:
        assert open_all(changed)
        return
    with pytest.raises((MalformedError, SignatureError, RefusedError)):
        open_all(changed)


@given(
    kind=st.sampled_from(BlobKind),
    digest=identifiers,
    numbers=st.tuples(st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1)),
    parent=st.none() | st.binary(min_size=16, max_size=16),
    sender=st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True),
)
@settings(deadline=None)
def test_headers_round_trip(
    kind: BlobKind, digest: bytes, numbers: tuple[int, int], parent: bytes | None, sender: str
) -> None:
    header = BlobHeader(
        kind=kind,
        agreement=digest,
        origin="simulated.example/log",
        boot_id=digest,
        round=numbers[0],
        attempt=numbers[1],
        sender=sender,
        upload_id=digest[:16],
        base_model=digest,
        layout=digest,
        encoding="float32",
        parent=parent,
    )
    assert BlobHeader.parse(header.encode()) == header


@given(st.binary(max_size=METADATA_LIMIT_BYTES))
@settings(deadline=None)
def test_metadata_padding_round_trips(data: bytes) -> None:
    padded = pad_metadata(data)
    assert len(padded) == 4096
    assert unpad_metadata(padded) == data


@given(st.integers(0, 10**6), st.floats(allow_nan=False, allow_infinity=False), metrics)
@settings(deadline=None)
def test_update_metadata_round_trips_and_fits(steps: int, step_size_sum: float, values: dict[str, float]) -> None:
    metadata = UpdateMetadata(steps=steps, step_size_sum=step_size_sum, metrics=values)
    encoded = metadata.encode()
    assert len(encoded) <= METADATA_LIMIT_BYTES
    assert UpdateMetadata.parse(encoded) == metadata


def test_the_longest_update_metadata_fits() -> None:
    longest = {f"{i:02d}".ljust(63, "x"): -1.2345678901234567e-300 for i in range(32)}
    encoded = UpdateMetadata(steps=2**53 - 1, step_size_sum=1.2345678901234567e-300, metrics=longest).encode()
    assert len(encoded) <= METADATA_LIMIT_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b'{"metrics":{},"step_size_sum":"1","steps":1,"x":1}',
        b'{"metrics":{},"step_size_sum":"1"}',
        b'{"metrics":[],"step_size_sum":"1","steps":1}',
        b'{"metrics":null,"step_size_sum":"1","steps":1}',
        b'{"metrics":{"Loss":"1"},"step_size_sum":"1","steps":1}',
        b'{"metrics":{"":"1"},"step_size_sum":"1","steps":1}',
        b'{"metrics":{"loss":1},"step_size_sum":"1","steps":1}',
        b'{"metrics":{"loss":"nan"},"step_size_sum":"1","steps":1}',
        b'{"metrics":{"loss":"1e999"},"step_size_sum":"1","steps":1}',
        b'{"metrics":{},"step_size_sum":"1e999","steps":1}',
        b'{"metrics":{},"step_size_sum":0.5,"steps":1}',
        b'{"metrics":{},"step_size_sum":"1","steps":-1}',
        b'{"metrics":{},"step_size_sum":"1","steps":"1"}',
        b'{"metrics":{},"step_size_sum":"1","steps":true}',
    ],
)
def test_update_metadata_of_another_form_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        UpdateMetadata.parse(data)


def test_too_many_or_infinite_metrics_are_refused_before_they_are_sealed() -> None:
    with pytest.raises(MalformedError, match="at most 32"):
        UpdateMetadata(steps=1, step_size_sum=1, metrics={str(i): 0.0 for i in range(33)})
    with pytest.raises(MalformedError, match="loss: expected a finite number"):
        UpdateMetadata(steps=1, step_size_sum=1, metrics={"loss": float("nan")})


@given(st.binary(min_size=1, max_size=64), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_each_chunk_is_its_own_ciphertext(plaintext: bytes, which: int) -> None:
    """Equal chunks do not look equal."""
    key = ContentKey(os.urandom(32))
    outs = [memoryview(bytearray(len(plaintext) + 16)) for _ in range(2)]
    key.seal_segment(which, False, plaintext, b"h" * 32, outs[0])
    key.seal_segment(which + 1, False, plaintext, b"h" * 32, outs[1])
    assert bytes(outs[0]) != bytes(outs[1])
    opened = memoryview(bytearray(len(plaintext)))
    with pytest.raises(SignatureError):
        key.open_segment(which + 1, False, outs[0], b"h" * 32, opened)
    with pytest.raises(SignatureError):
        key.open_segment(which, True, outs[0], b"h" * 32, opened)
    with pytest.raises(SignatureError):
        key.open_segment(which, False, outs[0], b"H" * 32, opened)
    key.open_segment(which, False, outs[0], b"h" * 32, opened)
    assert bytes(opened) == plaintext
