"""A blob opens as it was sealed, in any order, and in no other way."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.keys import SealingKey, SigningKey
from protocol.layout import Layout
from protocol.sealing import (
    BlobHeader,
    BlobReader,
    BlobWriter,
    ContentKey,
    MemoryBytes,
    size_of,
    wrap_content_key,
)

TAG = 16
SIGNATURE = 64


def segments(sealed: Any) -> list[tuple[int, int]]:
    """(offset, length) of each sealed segment, counted from the end of the blob."""
    sizes = [4096 + TAG, *(len(plaintext) + TAG for plaintext in sealed.plaintexts)]
    offset = len(sealed.data) - SIGNATURE - sum(sizes)
    places = []
    for size in sizes:
        places.append((offset, size))
        offset += size
    return places


def flipped(data: bytes, offset: int, mask: int = 1) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def test_opens_as_it_was_sealed(sealed: Any) -> None:
    assert sealed.open() == [sealed.metadata, *sealed.plaintexts]
    assert sealed.reader().authenticate(sealed.signer.public, sealed.expected) == sealed.digest


def test_its_size_is_known_beforehand(sealed: Any) -> None:
    header_size = len(sealed.header.encode())
    assert len(sealed.data) == size_of(header_size, 1168, sealed.layout.update_chunks)
    assert sealed.reader().size_expected == len(sealed.data)


def test_the_header_round_trips(sealed: Any) -> None:
    assert BlobHeader.parse(sealed.header.encode()) == sealed.header
    assert sealed.reader().header == sealed.header


def test_chunks_seal_and_open_in_any_order_from_threads(layout: Layout, header: BlobHeader) -> None:
    chunks = layout.update_chunks
    key, signer, recipient = ContentKey.fresh(os.urandom), SigningKey(os.urandom(32)), SealingKey(os.urandom(96))
    sink = MemoryBytes()
    writer = BlobWriter(header, chunks, sink, key, wrap_content_key(key, header, recipient.public))
    plaintexts = [os.urandom(chunk.size_bytes) for chunk in chunks]
    positions = list(reversed(range(len(chunks))))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda position: writer.seal_chunk(position, plaintexts[position]), positions))
    writer.finish(signer)
    reader = BlobReader(sink, chunks)
    reader.authenticate(signer.public)

    def opened(position: int) -> bytes:
        out = bytearray(chunks[position].size_bytes)
        reader.open_chunk(position, reader.unwrap(recipient), memoryview(out))
        return bytes(out)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, positions)) == list(reversed(plaintexts))


def test_a_callers_ciphertext_buffer_is_used_in_place(layout: Layout, header: BlobHeader) -> None:
    key, signer = ContentKey.fresh(os.urandom), SigningKey(os.urandom(32))
    sink = MemoryBytes()
    writer = BlobWriter(header, layout.update_chunks, sink, key)
    scratch = memoryview(bytearray(64 + TAG))
    for position, chunk in enumerate(layout.update_chunks):
        scratch[: chunk.size_bytes] = bytes([position]) * chunk.size_bytes
        writer.seal_chunk(position, scratch[: chunk.size_bytes], scratch)
    writer.finish(signer)
    reader = BlobReader(sink, layout.update_chunks)
    reader.authenticate(signer.public)
    for position, chunk in enumerate(layout.update_chunks):
        reader.open_chunk(position, key, scratch[: chunk.size_bytes], scratch)
        assert bytes(scratch[: chunk.size_bytes]) == bytes([position]) * chunk.size_bytes


def test_plaintext_and_metadata_do_not_show(sealed: Any) -> None:
    assert sealed.metadata not in sealed.data
    assert not any(plaintext in sealed.data for plaintext in sealed.plaintexts)


def test_another_signer_is_refused(sealed: Any) -> None:
    with pytest.raises(SignatureError, match="signature does not verify"):
        sealed.reader().authenticate(SigningKey(os.urandom(32)).public, sealed.expected)


def test_another_recipient_cannot_unwrap(sealed: Any) -> None:
    reader = sealed.reader()
    reader.authenticate(sealed.signer.public, sealed.expected)
    with pytest.raises(SignatureError, match="do not open"):
        reader.unwrap(SealingKey(os.urandom(96)))


def test_nothing_opens_before_the_signature_was_checked(sealed: Any) -> None:
    reader = sealed.reader()
    out = memoryview(bytearray(len(sealed.plaintexts[0])))
    for use in (
        lambda: reader.open_chunk(0, sealed.content_key, out),
        lambda: reader.open_metadata(sealed.content_key),
        lambda: reader.unwrap(sealed.recipient),
        lambda: reader.digest,
    ):
        with pytest.raises(ValueError, match="not been authenticated"):
            use()


def test_a_flipped_bit_in_any_tag_or_the_signature_breaks_the_signature(sealed: Any) -> None:
    places = [offset + size - 1 for offset, size in segments(sealed)] + [len(sealed.data) - 1]
    for place in places:
        with pytest.raises(SignatureError, match="signature does not verify"):
            sealed.reader(flipped(sealed.data, place)).authenticate(sealed.signer.public, sealed.expected)


def test_a_flipped_bit_in_a_ciphertext_opens_nothing_and_wipes(sealed: Any) -> None:
    for position, (offset, _) in enumerate(segments(sealed)[1:]):
        reader = sealed.reader(flipped(sealed.data, offset))
        assert reader.authenticate(sealed.signer.public, sealed.expected) == sealed.digest
        out = bytearray(b"\xff" * len(sealed.plaintexts[position]))
        with pytest.raises(SignatureError, match=f"segment {position + 1}: does not open"):
            reader.open_chunk(position, sealed.content_key, memoryview(out))
        assert not any(out), "unauthenticated plaintext was left behind"


def test_a_flipped_bit_in_the_wrap_breaks_the_signature(sealed: Any) -> None:
    offset = segments(sealed)[0][0] - 1
    with pytest.raises(SignatureError):
        sealed.reader(flipped(sealed.data, offset)).authenticate(sealed.signer.public, sealed.expected)


def test_exchanged_chunks_break_the_signature(sealed: Any) -> None:
    (first, size), (second, _) = segments(sealed)[1:3]
    data = bytearray(sealed.data)
    data[first : first + size], data[second : second + size] = (
        sealed.data[second : second + size],
        sealed.data[first : first + size],
    )
    with pytest.raises(SignatureError, match="signature"):
        sealed.open(bytes(data))


def test_a_chunk_does_not_open_at_another_place(sealed: Any) -> None:
    """Even if the signer himself moves it: the counter is in the nonce."""
    (first, size), (second, _) = segments(sealed)[1:3]
    source = MemoryBytes(sealed.data)
    reader = BlobReader(source, sealed.layout.update_chunks)
    reader.authenticate(sealed.signer.public)
    reader._tags = reader._tags[:16] + reader._tags[32:48] + reader._tags[16:32] + reader._tags[48:]
    source.write_at(first, sealed.data[second : second + size])
    with pytest.raises(SignatureError, match="segment 1: does not open"):
        reader.open_chunk(0, sealed.content_key, memoryview(bytearray(size - TAG)))


def test_a_shorter_blob_cannot_be_made_of_a_longer_one(sealed: Any) -> None:
    """The last segment is marked, so that the one before it cannot become the last, whoever signs."""
    chunks = sealed.layout.update_chunks
    prelude = segments(sealed)[0][0]
    end = segments(sealed)[-1][0]
    data = sealed.data[:end]
    reader = BlobReader(MemoryBytes(data + bytes(64)), chunks[:-1])
    tags = b"".join(data[offset + size - TAG : offset + size] for offset, size in segments(sealed)[:-1])
    header = sealed.header.encode()
    wrap = data[prelude - 1168 : prelude]
    signature = sealed.signer.sign("strongroom/blob/v1", header, wrap, tags)
    reader = BlobReader(MemoryBytes(data + signature), chunks[:-1])
    reader.authenticate(sealed.signer.public, sealed.expected)
    reader.open_chunk(0, sealed.content_key, memoryview(bytearray(chunks[0].size_bytes)))
    last = len(chunks) - 2
    with pytest.raises(SignatureError, match="does not open"):
        reader.open_chunk(last, sealed.content_key, memoryview(bytearray(chunks[last].size_bytes)))


def test_the_header_is_bound_to_every_segment_and_the_wrap(sealed: Any, reseal: Any) -> None:
    """A signer who puts another header before the same segments opens neither wrap nor chunks."""
    other = reseal(sealed, round=4)
    prelude = segments(sealed)[0][0]
    assert len(other.data) == len(sealed.data)
    header = other.header.encode()
    body = sealed.data[prelude:-64]
    wrap = sealed.data[prelude - 1168 : prelude]
    tags = b"".join(sealed.data[offset + size - TAG : offset + size] for offset, size in segments(sealed))
    signature = sealed.signer.sign("strongroom/blob/v1", header, wrap, tags)
    start = other.data[: prelude - 1168 - 4] + (1168).to_bytes(4, "big")
    reader = BlobReader(MemoryBytes(start + wrap + body + signature), sealed.layout.update_chunks)
    reader.authenticate(sealed.signer.public)
    with pytest.raises(SignatureError):
        reader.unwrap(sealed.recipient)
    with pytest.raises(SignatureError):
        reader.open_chunk(0, sealed.content_key, memoryview(bytearray(len(sealed.plaintexts[0]))))
    with pytest.raises(SignatureError):
        reader.open_metadata(sealed.content_key)


@pytest.mark.parametrize("change", [-1, 1, -64, 4096])
def test_truncated_or_extended_is_the_wrong_size(sealed: Any, change: int) -> None:
    data = sealed.data[:change] if change < 0 else sealed.data + bytes(change)
    with pytest.raises(RefusedError) as refused:
        sealed.open(data)
    assert refused.value.refusal.code is RefusalCode.WRONG_SIZE
    assert f"expected {len(sealed.data)} bytes, found {len(data)}" in str(refused.value)


def test_another_layouts_chunks_are_the_wrong_size(sealed: Any) -> None:
    reader = BlobReader(MemoryBytes(sealed.data), sealed.layout.chunks)
    with pytest.raises(RefusedError) as refused:
        reader.authenticate(sealed.signer.public, sealed.expected)
    assert refused.value.refusal.code is RefusalCode.WRONG_SIZE


@pytest.mark.parametrize("keep", [0, 5, 17, 18, 21, 22, 100])
def test_a_stump_is_malformed(sealed: Any, keep: int) -> None:
    with pytest.raises(MalformedError):
        sealed.reader(sealed.data[:keep])


def test_another_version_is_malformed(sealed: Any) -> None:
    with pytest.raises(MalformedError, match="strongroom-blob/1"):
        sealed.reader(sealed.data.replace(b"strongroom-blob/1\n", b"strongroom-blob/2\n", 1))


@pytest.mark.parametrize("claimed", [0, 4097, 2**32 - 1])
def test_a_header_length_out_of_bounds_is_malformed(sealed: Any, claimed: int) -> None:
    with pytest.raises(MalformedError, match="blob header"):
        sealed.reader(sealed.data[:18] + claimed.to_bytes(4, "big") + sealed.data[22:])


def test_a_wrap_of_another_length_is_malformed(sealed: Any) -> None:
    place = 22 + len(sealed.header.encode())
    with pytest.raises(MalformedError, match="blob wrap"):
        sealed.reader(sealed.data[:place] + (1167).to_bytes(4, "big") + sealed.data[place + 4 :])


def test_bytes_changed_between_the_signatures_check_and_the_opening_are_found(sealed: Any, reseal: Any) -> None:
    """The sender exchanges the whole file for another of his own that is as good: the kept tags don't match."""
    source = MemoryBytes(sealed.data)
    reader = BlobReader(source, sealed.layout.update_chunks)
    reader.authenticate(sealed.signer.public, sealed.expected)
    source.write_at(0, reseal(sealed).data)
    out = bytearray(b"\xff" * len(sealed.plaintexts[0]))
    with pytest.raises(SignatureError, match="changed since"):
        reader.open_chunk(0, sealed.content_key, memoryview(out))
    assert not any(out)


def test_a_source_that_shrinks_is_malformed(sealed: Any) -> None:
    class Shrinking(MemoryBytes):
        def size(self) -> int:
            return len(sealed.data)

    with pytest.raises(MalformedError, match="expected 64"):
        BlobReader(Shrinking(sealed.data[:-1]), sealed.layout.update_chunks).authenticate(sealed.signer.public)


def test_padding_of_metadata_is_zeros(layout: Layout, header: BlobHeader, monkeypatch: pytest.MonkeyPatch) -> None:
    key, signer = ContentKey.fresh(os.urandom), SigningKey(os.urandom(32))
    sink = MemoryBytes()
    monkeypatch.setattr("protocol.sealing.writer.pad_metadata", lambda data: b"\0\0\0\0".ljust(4095, b"\0") + b"x")
    writer = BlobWriter(header, layout.update_chunks, sink, key)
    for position, chunk in enumerate(layout.update_chunks):
        writer.seal_chunk(position, bytes(chunk.size_bytes))
    writer.finish(signer)
    reader = BlobReader(sink, layout.update_chunks)
    reader.authenticate(signer.public)
    with pytest.raises(MalformedError, match="zeros"):
        reader.open_metadata(key)


def test_a_body_without_wrap_opens_only_with_the_key_handed_over(layout: Layout, header: BlobHeader) -> None:
    key, signer = ContentKey.fresh(os.urandom), SigningKey(os.urandom(32))
    sink = MemoryBytes()
    writer = BlobWriter(header, layout.update_chunks, sink, key)
    for position, chunk in enumerate(layout.update_chunks):
        writer.seal_chunk(position, bytes(chunk.size_bytes))
    writer.finish(signer)
    reader = BlobReader(sink, layout.update_chunks)
    reader.authenticate(signer.public)
    with pytest.raises(SignatureError):
        reader.unwrap(SealingKey(os.urandom(96)))
    with pytest.raises(SignatureError):
        reader.open_metadata(ContentKey.fresh(os.urandom))
    assert reader.open_metadata(key) == b""


class TestWriterRefusesMisuse:
    """Each of these would repeat a nonce, or write what no reader accepts."""

    def test_a_key_for_two_blobs(self, layout: Layout, header: BlobHeader, sealed: Any) -> None:
        with pytest.raises(ValueError, match="fresh key"):
            BlobWriter(header, layout.update_chunks, MemoryBytes(), sealed.content_key)

    def test_a_chunk_twice(self, layout: Layout, header: BlobHeader) -> None:
        writer = BlobWriter(header, layout.update_chunks, MemoryBytes(), ContentKey.fresh(os.urandom))
        writer.seal_chunk(0, bytes(32))
        with pytest.raises(ValueError, match="sealed already"):
            writer.seal_chunk(0, bytes(32))

    def test_a_chunk_missing(self, layout: Layout, header: BlobHeader) -> None:
        writer = BlobWriter(header, layout.update_chunks, MemoryBytes(), ContentKey.fresh(os.urandom))
        writer.seal_chunk(0, bytes(32))
        with pytest.raises(ValueError, match="segment 2 of 6 has not been sealed"):
            writer.finish(SigningKey(os.urandom(32)))

    def test_a_chunk_of_another_size(self, layout: Layout, header: BlobHeader) -> None:
        writer = BlobWriter(header, layout.update_chunks, MemoryBytes(), ContentKey.fresh(os.urandom))
        with pytest.raises(ValueError, match="expected 32 bytes, found 31"):
            writer.seal_chunk(0, bytes(31))

    @pytest.mark.parametrize("position", [-1, 5])
    def test_a_chunk_that_is_none(self, layout: Layout, header: BlobHeader, position: int) -> None:
        writer = BlobWriter(header, layout.update_chunks, MemoryBytes(), ContentKey.fresh(os.urandom))
        with pytest.raises(ValueError, match="position: expected 0 to 4"):
            writer.seal_chunk(position, bytes(32))

    def test_too_much_metadata(self, layout: Layout, header: BlobHeader) -> None:
        with pytest.raises(ValueError, match="at most 4092"):
            BlobWriter(header, layout.update_chunks, MemoryBytes(), ContentKey.fresh(os.urandom), metadata=bytes(4093))

    def test_a_wrap_that_is_none(self, layout: Layout, header: BlobHeader) -> None:
        with pytest.raises(ValueError, match="out of bounds"):
            BlobWriter(header, layout.update_chunks, MemoryBytes(), ContentKey.fresh(os.urandom), b"wrap")


def test_the_readers_buffer_has_the_chunks_size(sealed: Any) -> None:
    reader = sealed.reader()
    reader.authenticate(sealed.signer.public, sealed.expected)
    with pytest.raises(ValueError, match="expected a buffer of 32 bytes"):
        reader.open_chunk(0, sealed.content_key, memoryview(bytearray(33)))
    with pytest.raises(ValueError, match="position: expected 0 to 4"):
        reader.open_chunk(-1, sealed.content_key, memoryview(bytearray(32)))


def test_a_content_key_does_not_show_itself() -> None:
    key = ContentKey(b"k" * 32)
    assert repr(key) == "<ContentKey redacted>"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(key)
    with pytest.raises(ValueError, match="expected 32 bytes"):
        ContentKey(b"short")
