"""Which tiles a log's directory holds: those of its tree, and the partial ones of checkpoints that nothing superseded.

Pure. Called by the audit, which misses what is not there, and by whoever makes a bundle, which holds just these.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain

from audit.tiles import TILE_LEVELS, TILE_WIDTH, Tile, entry_bundles, hash_tiles


def expected_tiles(size: int, heads: Sequence[int]) -> Iterator[tuple[Tile, int]]:
    """Every tile of a pruned log of `size` entries, each once, with the size of a checkpoint that it was written for.

    `heads`: the sizes of all checkpoints, ascending; those beyond `size` count for nothing.
    """
    for tile in chain(entry_bundles(size), hash_tiles(size)):
        yield tile, size
    for level in (None, *range(size.bit_length() // TILE_LEVELS + 1)):
        index, widest = divmod(size >> (TILE_LEVELS * (level or 0)), TILE_WIDTH)
        # A full tile supersedes all partial ones, so that only the last of a level has any.
        for width in range(1, widest):
            tile = Tile(level=level, index=index, width=width)
            if (head := head_of(tile, heads)) is not None:
                yield tile, head


def head_of(tile: Tile, heads: Sequence[int]) -> int | None:
    """The least of these sizes (ascending) at which a log writes this partial tile, if there is one."""
    bits = TILE_LEVELS * (tile.level or 0)
    position = bisect_left(heads, (tile.start + tile.width) << bits)
    if position == len(heads) or heads[position] >> bits != tile.start + tile.width:
        return None
    return heads[position]


def in_level(tile: Tile, size: int) -> int:
    """How many hashes (or entries) there are in a tile's level of a tree of `size` entries."""
    return size >> (TILE_LEVELS * (tile.level or 0))
