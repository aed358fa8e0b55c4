"""A small layout, keys and a sealed update, for the tests of the blob format."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

import protocol.layout
from protocol.keys import SealingKey, SigningKey
from protocol.layout import Layout, Role, Tensor
from protocol.sealing import (
    ANY,
    BlobHeader,
    BlobKind,
    BlobReader,
    BlobWriter,
    ContentKey,
    ExpectedHeader,
    MemoryBytes,
    wrap_content_key,
)

METADATA = b'{"hello":"sealed"}'


@dataclass(frozen=True)
class Sealed:
    """One blob with everything that went into it."""

    data: bytes
    digest: bytes
    header: BlobHeader
    layout: Layout
    plaintexts: tuple[bytes, ...]
    content_key: ContentKey
    signer: SigningKey
    recipient: SealingKey
    expected: ExpectedHeader
    metadata: bytes = METADATA

    def reader(self, data: bytes | None = None) -> BlobReader:
        return BlobReader(MemoryBytes(self.data if data is None else data), self.layout.update_chunks)

    def open(self, data: bytes | None = None, expected: ExpectedHeader | None = None) -> list[bytes]:
        """The whole path of a recipient: every check, then metadata and chunks."""
        reader = self.reader(data)
        reader.authenticate(self.signer.public, self.expected if expected is None else expected)
        key = reader.unwrap(self.recipient)
        opened = [reader.open_metadata(key)]
        for position, plaintext in enumerate(self.plaintexts):
            out = bytearray(len(plaintext))
            reader.open_chunk(position, key, memoryview(out))
            opened.append(bytes(out))
        return opened


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Chunks of 8 coordinates: parameters 8 + 8 + 3, float buffers 2, integer buffers 1, frozen 5."""
    monkeypatch.setattr(protocol.layout, "CHUNK_COORDINATES", 8)
    return Layout(
        tensors=(
            Tensor(name="weight", shape=(4, 4), dtype="float32", role=Role.PARAMETER),
            Tensor(name="bias", shape=(3,), dtype="float32", role=Role.PARAMETER),
            Tensor(name="mean", shape=(2,), dtype="float32", role=Role.BUFFER),
            Tensor(name="seen", shape=(), dtype="int64", role=Role.BUFFER),
            Tensor(name="table", shape=(5,), dtype="float32", role=Role.FROZEN),
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
        parent=b"p" * 16,
    )


@pytest.fixture
def sealed(layout: Layout, header: BlobHeader) -> Sealed:
    return seal(layout, header)


@pytest.fixture
def reseal(layout: Layout) -> Callable[..., Sealed]:
    """Seal the same update with some header fields changed."""

    def with_header(sealed: Sealed, **changes: object) -> Sealed:
        return seal(layout, replace(sealed.header, **changes), sealed)  # type: ignore[arg-type]

    return with_header


def seal(layout: Layout, header: BlobHeader, like: Sealed | None = None) -> Sealed:
    signer = like.signer if like else SigningKey(os.urandom(32))
    recipient = like.recipient if like else SealingKey(os.urandom(96))
    key = ContentKey.fresh(os.urandom)
    sink = MemoryBytes()
    wrap = wrap_content_key(key, header, recipient.public)
    writer = BlobWriter(header, layout.update_chunks, sink, key, wrap, METADATA)
    plaintexts = tuple(os.urandom(chunk.size_bytes) for chunk in layout.update_chunks)
    for position, plaintext in enumerate(plaintexts):
        writer.seal_chunk(position, plaintext)
    digest = writer.finish(signer)
    return Sealed(
        data=bytes(sink),
        digest=digest,
        header=header,
        layout=layout,
        plaintexts=plaintexts,
        content_key=key,
        signer=signer,
        recipient=recipient,
        expected=ExpectedHeader(
            kind=BlobKind.UPDATE,
            agreement=b"a" * 32,
            origin="simulated.example/log",
            boot_id=b"b" * 32,
            round=3,
            attempt=1,
            sender="zurich",
            upload_id=ANY,
            base_model=b"m" * 32,
            layout=layout.digest,
            encoding="float32",
            parent=b"p" * 16,
        ),
    )
