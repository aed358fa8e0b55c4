"""Where everything lies in a blob. All offsets follow from three sizes that are known before a byte is read.

    "strongroom-blob/1\\n" ‖ u32 header size ‖ header ‖ u32 wrap size ‖ wrap
    ‖ metadata segment ‖ one segment per chunk ‖ signature (64)

A segment is its plaintext's length and a 16-byte tag. Segment 0 is the metadata, segment i + 1 the chunk at position i.
Integers are big-endian.
"""

from array import array
from collections.abc import Sequence

from protocol.errors import MalformedError
from protocol.keys import SIGNATURE_BYTES, WRAP_OVERHEAD_BYTES
from protocol.layout import Chunk
from protocol.sealing.bytes_io import ByteSource, read
from protocol.sealing.content_key import CONTENT_KEY_BYTES, TAG_BYTES
from protocol.sealing.header import HEADER_LIMIT_BYTES

MAGIC = b"strongroom-blob/1\n"
METADATA_BYTES = 4096
METADATA_LIMIT_BYTES = METADATA_BYTES - 4
WRAP_BYTES = WRAP_OVERHEAD_BYTES + CONTENT_KEY_BYTES


class Geometry:
    """Offsets and sizes of the segments of one blob (8 + 8 bytes of memory a chunk)."""

    __slots__ = ("_offsets", "_sizes", "prelude_size", "size")

    def __init__(self, header_size: int, wrap_size: int, chunks: Sequence[Chunk]) -> None:
        self.prelude_size = len(MAGIC) + 4 + header_size + 4 + wrap_size
        self._sizes = array("Q", [METADATA_BYTES])
        self._sizes.extend(chunk.size_bytes for chunk in chunks)
        self._offsets = array("Q")
        end = self.prelude_size
        for size in self._sizes:
            self._offsets.append(end)
            end += size + TAG_BYTES
        self._offsets.append(end)
        self.size = end + SIGNATURE_BYTES

    @property
    def segments(self) -> int:
        """How many segments there are: one for the metadata and one a chunk."""
        return len(self._sizes)

    @property
    def signature_offset(self) -> int:
        return self._offsets[-1]

    @property
    def largest_segment(self) -> int:
        """The size of the largest sealed segment, tag included: what a ciphertext buffer must hold."""
        return max(self._sizes) + TAG_BYTES

    def plaintext_size(self, segment: int) -> int:
        return self._sizes[segment]

    def offset(self, segment: int) -> int:
        """Where the sealed segment begins."""
        return self._offsets[segment]

    def tag_offset(self, segment: int) -> int:
        return self._offsets[segment + 1] - TAG_BYTES

    def is_last(self, segment: int) -> bool:
        return segment == self.segments - 1


def size_of(header_size: int, wrap_size: int, chunks: Sequence[Chunk]) -> int:
    """The exact length of a blob."""
    return Geometry(header_size, wrap_size, chunks).size


def encode_prelude(header: bytes, wrap: bytes) -> bytes:
    """Everything before the first segment."""
    return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, len(wrap).to_bytes(4, "big"), wrap))


def read_prelude(source: ByteSource) -> tuple[bytes, bytes]:
    """The header's and the wrap's bytes; raises `MalformedError`. Reads at most 6 KiB, whatever is claimed."""
    if read(source, 0, len(MAGIC)) != MAGIC:
        raise MalformedError(f"blob: expected it to begin with {MAGIC!r}")
    header = _read_prefixed(source, len(MAGIC), "header", range(1, HEADER_LIMIT_BYTES + 1))
    wrap = _read_prefixed(source, len(MAGIC) + 4 + len(header), "wrap", (0, WRAP_BYTES))
    return header, wrap


def _read_prefixed(source: ByteSource, offset: int, what: str, allowed: Sequence[int]) -> bytes:
    size = int.from_bytes(read(source, offset, 4), "big")
    if size not in allowed:
        raise MalformedError(f"blob {what}: expected {allowed[0]} or up to {allowed[-1]} bytes, found {size}")
    return read(source, offset + 4, size)


def pad_metadata(metadata: bytes) -> bytes:
    """u32 length, the bytes, zeros: always 4,096, so that its size says nothing."""
    if len(metadata) > METADATA_LIMIT_BYTES:
        raise ValueError(f"metadata: expected at most {METADATA_LIMIT_BYTES} bytes, found {len(metadata)}")
    return (len(metadata).to_bytes(4, "big") + metadata).ljust(METADATA_BYTES, b"\0")


def unpad_metadata(padded: bytes) -> bytes:
    """The bytes that `pad_metadata` padded; raises `MalformedError` unless every padding byte is zero."""
    size = int.from_bytes(padded[:4], "big")
    if len(padded) != METADATA_BYTES or size > METADATA_LIMIT_BYTES or any(padded[4 + size :]):
        raise MalformedError(f"metadata: expected a length up to {METADATA_LIMIT_BYTES}, the bytes and zeros")
    return padded[4 : 4 + size]
