"""Where a blob's bytes lie: random access, in pieces, so that no blob is ever held whole.

The store's files, a silo's spool and memory all look like this. Nothing read through a `ByteSource` is trusted: the
reader of a blob authenticates every byte that it uses.
"""

from typing import Protocol, TypeAlias

from protocol.errors import MalformedError

Readable: TypeAlias = bytes | bytearray | memoryview


class ByteSource(Protocol):
    """Bytes to read at any offset, from several threads at once (`pread`)."""

    def size(self) -> int:
        """How many bytes there are."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` (writable, byte-typed) from `offset`, or raise.

        `MalformedError` where the bytes end before; files raise their store's error.
        """


class ByteSink(Protocol):
    """Bytes to write at any offset, from several threads at once as long as their ranges differ (`pwrite`)."""

    def write_at(self, offset: int, data: Readable) -> None:
        """Write all of `data` at `offset`."""


class MemoryBytes:
    """A `ByteSource` and `ByteSink` in memory: for simulations and tests, and for small objects."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytearray(data)

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def size(self) -> int:
        """How many bytes there are."""
        return len(self._data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`; raises `MalformedError` where the bytes end before."""
        found = len(self._data) - offset
        if offset < 0 or found < len(buffer):
            raise MalformedError(f"bytes at {offset}: expected {len(buffer)}, found {max(found, 0)}")
        buffer[:] = memoryview(self._data)[offset : offset + len(buffer)]

    def write_at(self, offset: int, data: Readable) -> None:
        """Write `data` at `offset`; a gap before it reads as zeros."""
        end = offset + len(data)
        if len(self._data) < end:
            self._data.extend(bytes(end - len(self._data)))
        self._data[offset:end] = data


def read(source: ByteSource, offset: int, size: int) -> bytes:
    """A small piece as bytes; raises `MalformedError`."""
    buffer = bytearray(size)
    source.read_into(offset, memoryview(buffer))
    return bytes(buffer)
