"""A log in one file: an uncompressed USTAR archive in the one spelling that we would write, read where it lies.

    federation.toml     the agreement
    log/…               the files of `audit.resources`, under their own names

Anybody's `tar` opens it. A header is a function of name and size alone (mode 0644, no owner, no time, no link), names
ascend byte by byte, padding is zero, and two zero blocks end the file: so every byte counts, no name comes twice and
none leads anywhere. What deviates is refused, whatever a lenient reader would make of it. Nothing is unpacked; what
the bytes mean, the audit judges as it does a directory's.

Called by the audit (`audit.log_files`) and by whoever makes a bundle (`audit.bundling`). Trusts nothing.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from audit.store import MAXIMUM_READ_BYTES, checked_name
from audit.stored_files import NotFound, StoreError, StoreSource
from protocol.agreement_toml import printable
from protocol.errors import MalformedError

AGREEMENT = "federation.toml"
BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
MAXIMUM_NAME_BYTES = 100
_SIZE = re.compile(rb"[0-7]{11}\0")
_EVERY = 64  # One name in so many is kept in memory.
# IEEE Std 1003.1, pax, "ustar Interchange Format": field, offset, size.
_FIELDS = (
    ("name", 0, 100),
    ("mode", 100, 8),
    ("owner", 108, 8),
    ("group", 116, 8),
    ("size", 124, 12),
    ("time", 136, 12),
    ("type", 156, 1),
    ("link", 157, 100),
    ("magic and version", 257, 8),
    ("owner's and group's name", 265, 64),
    ("device", 329, 16),
    ("prefix and padding", 345, 167),
    ("checksum", 148, 8),  # Last: whatever else differs changes it.
)


class _Member(NamedTuple):
    name: str
    size: int
    start: int
    """Where its bytes begin."""

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.start + padded(self.size)


def padded(size: int) -> int:
    """The bytes that a member of `size` bytes takes, its header left out."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def header(name: str, size: int) -> bytes:
    """The one header (512 bytes) of a member; `ValueError` for a name or size that none may have."""
    encoded = name.encode("ascii")
    if not 0 < len(encoded) <= MAXIMUM_NAME_BYTES or not 0 <= size <= MAXIMUM_READ_BYTES:
        raise ValueError(f"bundle: expected a name of 1 to 100 bytes and at most {MAXIMUM_READ_BYTES} bytes of {name}")
    before = encoded.ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + b"%011o\0" % size + b"00000000000\0"
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + 2 * b"0000000\0" + bytes(167)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after


class Bundle:
    """Reads one by name. Its memory is eight bytes a file and every 64th name; `agreement` is the file's own copy.

    `size_bytes` is the whole file's. For one thread at a time.
    """

    def __init__(self, source: StoreSource) -> None:
        """Walks every header and every padding; raises `MalformedError` at the first that is not ours, `StoreError`."""
        self._source = source
        self.size_bytes = source.size()
        self._headers = array("Q")
        self._names: list[str] = []
        position, newest = 0, ""
        while (block := self._block(position)) != bytes(BLOCK_BYTES):
            member = self._parse(position, block)
            name = printable(member.name)
            if not self._headers and member.name != AGREEMENT:
                raise _refused(position, f"expected {AGREEMENT} first, found {name}")
            if member.name == newest:
                raise _refused(position, f"expected each name once, found {name} twice")
            if member.name < newest:
                raise _refused(position, f"expected names in order, found {name} after {newest}")
            if member.end > self.size_bytes:
                raise _refused(position, f"{name}: expected {member.size} bytes, found the end of the file")
            if self._read(member.start + member.size, member.end - member.start - member.size).strip(b"\0"):
                raise _refused(position, f"{name}: expected zeros up to the next block, found other bytes")
            if len(self._headers) % _EVERY == 0:
                self._names.append(member.name)
            self._headers.append(position)
            position, newest = member.end, member.name
        if not self._headers:
            raise _refused(0, f"expected {AGREEMENT} first, found no file")
        if self._block(position + BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise _refused(position, "expected two zero blocks at the end, found one")
        if position + len(END) != self.size_bytes:
            raise _refused(
                position, f"expected nothing after the end, found {self.size_bytes - position - len(END)} bytes"
            )
        self.agreement = self.read(AGREEMENT)

    def read(self, name: str, *, limit_bytes: int = MAXIMUM_READ_BYTES) -> bytes:
        """A member's bytes; raises `StoreError`, `NotFound` if there is none of this name."""
        member = self._find(checked_name(name))
        if member is None:
            raise NotFound(f"bundle: {name}: no such name")
        if member.size > limit_bytes:
            raise StoreError(f"bundle: {name}: expected at most {limit_bytes} bytes, found {member.size}")
        return self._read(member.start, member.size)

    def names(self) -> Iterator[str]:
        """All names below `log/`, ascending."""
        for number in range(1, len(self._headers)):
            yield self._member(number).name

    def close(self) -> None:
        self._source.close()

    def _find(self, name: str) -> _Member | None:
        low = max(0, bisect_right(self._names, name) - 1) * _EVERY
        high = min(low + _EVERY, len(self._headers))
        while low < high:
            middle = (low + high) // 2
            member = self._member(middle)
            if member.name == name:
                return member
            low, high = (middle + 1, high) if member.name < name else (low, middle)
        return None

    def _member(self, number: int) -> _Member:
        try:
            return self._parse(self._headers[number], self._block(self._headers[number]))
        except MalformedError as error:
            raise StoreError(f"{error}: it changed while it was read") from error

    def _parse(self, position: int, block: bytes) -> _Member:
        """A header, if it is the one that its name and size have; raises `MalformedError`."""
        try:
            name = checked_name(block[:100].partition(b"\0")[0].decode("ascii"))
        except (UnicodeDecodeError, StoreError) as error:
            raise _refused(position, "expected a file's name of [A-Za-z0-9._-] parts, found another") from error
        if name != AGREEMENT and not name.startswith("log/"):
            raise _refused(position, f"expected {AGREEMENT} or a file below log/, found {name}")
        size = int(block[124:135], 8) if _SIZE.fullmatch(block[124:136]) else -1
        if not 0 <= size <= MAXIMUM_READ_BYTES:
            raise _refused(position, f"{name}: expected a size of at most {MAXIMUM_READ_BYTES} bytes, found another")
        if block != (ours := header(name, size)):
            wrong = next(field for field, at, width in _FIELDS if block[at : at + width] != ours[at : at + width])
            raise _refused(position, f"{name}: expected the plain header that a bundle has, found another {wrong}")
        return _Member(name, size, position + BLOCK_BYTES)

    def _block(self, position: int) -> bytes:
        if position + BLOCK_BYTES > self.size_bytes:
            raise _refused(position, "expected a header or the end's zero blocks, found the end of the file")
        return self._read(position, BLOCK_BYTES)

    def _read(self, start: int, size: int) -> bytes:
        data = bytearray(size)
        self._source.read_into(start, data)
        return bytes(data)


def _refused(position: int, problem: str) -> MalformedError:
    return MalformedError(f"bundle: at byte {position}: {problem}")
