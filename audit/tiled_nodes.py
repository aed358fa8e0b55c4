"""A stored log's tree, out of its tiles: nodes and entries by number, with no more than some tiles in memory.

Trusts nothing and verifies nothing: whoever uses an answer holds it against a signed head. Called by the log's reader
and by what compares logs.
"""

from audit.merkle import Tree
from audit.resources import Readable, read_bundle, read_hash_tile
from audit.tiles import TILE_LEVELS, TILE_WIDTH, Tile

_CACHED_TILES = 256


class TiledNodes:
    """The tree of `size` leaves (`merkle.Nodes`), and its entries. For one thread at a time.

    Every method raises `LogDamagedError` for what is missing or malformed.
    """

    def __init__(self, files: Readable, size: int) -> None:
        self.size = size
        self._files = files
        self._tiles: dict[Tile, Tree] = {}

    def entry(self, index: int) -> bytes:
        """An entry's bytes; `ValueError` unless 0 ≤ index < size."""
        if not 0 <= index < self.size:
            raise ValueError(f"entry: expected an index below {self.size}, found {index}")
        bundle = tile_at(None, index, self.size)
        return read_bundle(self._files, bundle, or_full=True)[index - bundle.start]

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree, out of the tile that holds its leaves."""
        tile_level, height = divmod(level, TILE_LEVELS)
        tile = tile_at(tile_level, index << height, self.size >> (TILE_LEVELS * tile_level))
        if tile not in self._tiles:
            if len(self._tiles) == _CACHED_TILES:
                del self._tiles[next(iter(self._tiles))]
            self._tiles[tile] = Tree(read_hash_tile(self._files, tile, or_full=True))
        return self._tiles[tile].node(height, index - (tile.start >> height))


def tile_at(level: int | None, position: int, count: int) -> Tile:
    """The tile that holds a position in a level of `count` hashes (or entries)."""
    index = position // TILE_WIDTH
    return Tile(level=level, index=index, width=min(TILE_WIDTH, count - index * TILE_WIDTH))
