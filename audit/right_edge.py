"""The Merkle tree of a log that is read once from left to right: only the unfinished tiles are in memory.

Pure. At most 256 hashes a tile level, whatever the log's size; the audit compares every stored tile with what grows
here.
"""

import itertools

from audit.merkle import Tree, TreeHead, root_hash
from audit.tiles import TILE_LEVELS, TILE_WIDTH, Tile


class RightEdge:
    """A growing tree that forgets its finished tiles (`merkle.Nodes` for the nodes that its own root needs)."""

    def __init__(self) -> None:
        self.size = 0
        self._tiles = [Tree()]

    def append(self, leaf: bytes) -> list[tuple[Tile, Tree]]:
        """Add one leaf hash (32 bytes). Returns every hash tile that it began, widened or finished, with its hashes."""
        grown: list[tuple[Tile, Tree]] = []
        node = leaf
        for level in itertools.count():
            if level == len(self._tiles):
                self._tiles.append(Tree())
            tree = self._tiles[level]
            tree.append(node)
            index = self.size >> (TILE_LEVELS * (level + 1))
            grown.append((Tile(level=level, index=index, width=tree.size), tree))
            if tree.size < TILE_WIDTH:
                break
            # A finished tile's root is the next hash of the level above; partial tiles are not hashed upward.
            node = tree.node(TILE_LEVELS, 0)
            self._tiles[level] = Tree()
        self.size += 1
        return grown

    def head(self) -> TreeHead:
        """Size and root of the tree so far."""
        return TreeHead(size=self.size, root=root_hash(self, self.size))

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree on the right edge."""
        tile_level, height = divmod(level, TILE_LEVELS)
        start = (self.size >> (TILE_LEVELS * tile_level)) // TILE_WIDTH * TILE_WIDTH
        return self._tiles[tile_level].node(height, index - (start >> height))
