"""Tiles and entry bundles of C2SP tlog-tiles: names, bytes, and which of them a tree of some size has.

Pure: foreign names and bytes in, frozen values out, `MalformedError` otherwise. Nothing here is authenticated; a tile
is worth what its hashes lead to. Called by the log's writer, reader and recovery.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.merkle import HASH_BYTES, MAXIMUM_SIZE
from protocol.errors import MalformedError

TILE_WIDTH = 256
TILE_LEVELS = 8  # Binary levels between one tile level and the next: 2⁸ = TILE_WIDTH.
MAXIMUM_LEVEL = 63
MAXIMUM_ENTRY_BYTES = 65_535
MAXIMUM_BUNDLE_BYTES = TILE_WIDTH * (2 + MAXIMUM_ENTRY_BYTES)

_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One tile's name: `level` 0 to 63, or None for an entry bundle; position in its level; hashes or entries in it."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """`tile/<L>/<N>[.p/<W>]`, N in groups of three digits: tile/0/x001/x234/067.p/12."""
        level = "entries" if self.level is None else str(self.level)
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        suffix = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return f"tile/{level}/" + "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:]) + suffix

    @classmethod
    def parse(cls, path: str) -> "Tile":
        """Read a path in its one canonical spelling; raises `MalformedError`."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise MalformedError(f"tile path: expected tile/<level>/<index>[.p/<width>], found {path[:120]!r}")
        level, index, width = match.groups()
        tile = cls(
            level=None if level == "entries" else int(level),
            index=int(index.replace("x", "").replace("/", "")),
            width=TILE_WIDTH if width is None else int(width),
        )
        # The spelling that we would write is the only one: no "x000/" in front, no "00" for a level, no ".p/256".
        if tile.path != path or not 0 <= (tile.level or 0) <= MAXIMUM_LEVEL or tile.index > MAXIMUM_SIZE // TILE_WIDTH:
            raise MalformedError(f"tile path: expected its canonical spelling, found {path[:120]!r}")
        return tile

    @property
    def partial(self) -> bool:
        return self.width < TILE_WIDTH

    @property
    def full(self) -> "Tile":
        """The tile that this one becomes, or is."""
        return Tile(level=self.level, index=self.index)

    @property
    def start(self) -> int:
        """Position in its level of the tile's first hash (or entry)."""
        return self.index * TILE_WIDTH


def entry_bundles(new_size: int, *, old_size: int = 0) -> Iterator[Tile]:
    """The bundles of a tree of `new_size` entries that one of `old_size` has not, in order."""
    yield from _row(None, old_size, new_size)


def hash_tiles(new_size: int, *, old_size: int = 0) -> Iterator[Tile]:
    """The hash tiles of a tree of `new_size` leaves that one of `old_size` has not, lowest level first."""
    for level in range(MAXIMUM_LEVEL):
        if not new_size >> (TILE_LEVELS * level):
            return
        yield from _row(level, old_size >> (TILE_LEVELS * level), new_size >> (TILE_LEVELS * level))


def _row(level: int | None, old: int, new: int) -> Iterator[Tile]:
    if new > old:
        for index in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
            yield Tile(level=level, index=index, width=min(TILE_WIDTH, new - index * TILE_WIDTH))


def encode_hash_tile(hashes: Sequence[bytes]) -> bytes:
    """The hashes, concatenated."""
    return b"".join(hashes)


def parse_hash_tile(data: bytes, *, width: int) -> list[bytes]:
    """Exactly `width` hashes of 32 bytes; raises `MalformedError`."""
    if len(data) != width * HASH_BYTES:
        raise MalformedError(f"tile: expected {width} hashes ({width * HASH_BYTES} bytes), found {len(data)} bytes")
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """u16be length ‖ entry, for each; `ValueError` for an entry of more than 65,535 bytes."""
    parts = []
    for entry in entries:
        if len(entry) > MAXIMUM_ENTRY_BYTES:
            raise ValueError(f"entry: expected at most {MAXIMUM_ENTRY_BYTES} bytes, found {len(entry)}")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def parse_bundle(data: bytes, *, width: int) -> list[bytes]:
    """Exactly `width` entries and nothing behind them; raises `MalformedError`."""
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or position > len(data):
            raise MalformedError(f"entry bundle: expected entry {len(entries)} to end within {len(data)} bytes")
        if len(entries) == width:
            raise MalformedError(f"entry bundle: expected {width} entries, found more")
        entries.append(data[start:position])
    if len(entries) != width:
        raise MalformedError(f"entry bundle: expected {width} entries, found {len(entries)}")
    return entries
