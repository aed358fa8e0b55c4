"""Bundles made in memory, and headers that are not ours: for the tests of bundles."""

from collections.abc import Iterable

from audit.bundle import BLOCK_BYTES, END, Bundle, header, padded
from audit.bundling import Bundling
from audit.log_files import LogFiles
from audit.store import MemorySource, Store
from protocol.agreement import Agreement


def bundle_of(store: Store, agreement: Agreement, upto: int | None = None) -> bytes:
    return b"".join(Bundling(LogFiles(store), agreement, upto=upto).blocks())


def opened(data: bytes) -> Bundle:
    return Bundle(MemorySource("bundle", data))


def member(name: str, data: bytes, /, **changes: bytes) -> bytes:
    """A member with other header fields (by their tar names), its checksum right."""
    block = bytearray(header(name[:100], len(data)))
    places = {"name": 0, "mode": 100, "uid": 108, "size": 124, "mtime": 136, "type": 156, "link": 157, "magic": 257}
    places |= {"uname": 265, "devmajor": 329, "prefix": 345, "padding": 500}
    for field, value in changes.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data + bytes(padded(len(data)) - len(data))


def archive(*members: bytes, end: bytes = END) -> bytes:
    return b"".join(members) + end


def members_of(data: bytes) -> Iterable[tuple[str, int, int]]:
    """Name, size and place of each header, as a stranger would read them."""
    position = 0
    while data[position : position + BLOCK_BYTES].strip(b"\0"):
        name = data[position : position + 100].rstrip(b"\0").decode()
        size = int(data[position + 124 : position + 135], 8)
        yield name, size, position
        position += BLOCK_BYTES + padded(size)
