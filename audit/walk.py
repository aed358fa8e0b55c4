"""Every byte of every tile: entries streamed from left to right, and each stored tile held against what they make.

The entries come from the widest stored bundles, one bundle in memory at a time. Whether they are what the log signed is
for whoever calls `holds` with a signed head to say; until a head is held, a difference between entries and a hash tile
convicts neither. `conclude` knows which of the two the signatures convict.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.expected_tiles import expected_tiles, head_of, in_level
from audit.findings import MAXIMUM_FINDINGS, Findings
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.merkle import Tree, TreeHead, leaf_hash
from audit.report import Line
from audit.resources import checkpoint_name, tile_name
from audit.right_edge import RightEdge
from audit.store import MAXIMUM_READ_BYTES, NotFound, StoreError
from audit.tiles import (
    TILE_WIDTH,
    Tile,
    entry_bundles,
    parse_bundle,
    parse_hash_tile,
)
from protocol.errors import MalformedError

_HASH = 32
_UNSIGNED = (
    "lies beyond the newest checkpoint, which says nothing of it: left by a crash, or a newer checkpoint was removed"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """A stored tile that differs from the entries, noticed at a tree size; first position that differs."""

    size: int
    tile: Tile
    position: int


class TreeWalk:
    """One walk over a log of `size` entries; `heads`: the sizes of all stored checkpoints, ascending."""

    def __init__(
        self, *, files: LogFiles, inventory: Inventory, size: int, heads: Sequence[int], findings: Findings
    ) -> None:
        self.edge = RightEdge()
        self.complete = False
        self._files = files
        self._inventory = inventory
        self._stored = inventory.tiles
        self._size = size
        self._findings = findings
        self._heads = heads[: bisect_right(heads, size)]
        self._differences: list[_Difference] = []
        self._held = 0
        self._unheld: list[tuple[int, str]] = []

    def entries(self) -> Iterator[bytes]:
        """All entries in order. While entry i is out, `edge` has i leaves; it grows when the next one is asked for.

        Ends early at a bundle that is missing or malformed, which is noted; `complete` says whether it did not.
        """
        for bundle in entry_bundles(self._size):
            found = self._read_bundle(bundle)
            if found is None:
                return
            for entry in found:
                yield entry
                for tile, tree in self.edge.append(leaf_hash(entry)):
                    self._compare(tile, tree)
        self.complete = True

    def glance(self) -> Iterator[bytes]:
        """All entries in order, hashed and compared with nothing; ends early, with what an older and narrower bundle
        holds, where one can't be read.
        """
        for bundle in entry_bundles(self._size):
            found = self._read_bundle(bundle)
            if found is None:
                yield from self._read_widest(bundle.index) or ()
                return
            yield from found

    @property
    def signed_size(self) -> int:
        """The largest size at which a signed head was held: the entries below it are what the log signed."""
        return self._held

    @property
    def clean(self) -> bool:
        """Whether nothing has differed so far."""
        return not (self._differences or self._unheld)

    @property
    def broken(self) -> bool:
        """Whether some signed head beyond `signed_size` is not that of the entries."""
        return any(size > self._held for size, _ in self._unheld)

    def first_entry(self) -> tuple[str, bytes] | None:
        """Leaf 0, before anything is known of the log, and the bundle that holds it; None if none is to be read."""
        bundle = self._bundle_of(0)
        if bundle not in self._stored:
            bundle = self._inventory.widest_bundle(0) or bundle
        found = self._read_bundle(bundle)
        return None if not found else (tile_name(bundle), found[0])

    def other_first_hash(self, entry: bytes) -> str | None:
        """A hash tile whose first hash is not that of this leaf 0, if there is one."""
        for tile in sorted(
            (tile for tile in self._stored if tile.level == 0 and tile.index == 0), key=lambda t: t.width
        ):
            hashes = self._read_hash_tile(tile)
            if hashes is not None and hashes[0] != leaf_hash(entry):
                return tile_name(tile)
        return None

    def holds(self, head: TreeHead, name: str) -> bool:
        """Whether the tree at its present size has the root of a signed head, which `name` carries."""
        if self.edge.head() == head:
            self._held = head.size
            return True
        if len(self._unheld) > MAXIMUM_FINDINGS:  # The first ones are named; the last says how far the tree is broken.
            self._unheld.pop()
        self._unheld.append((head.size, name))
        return False

    def conclude(self) -> None:
        """Name every tile that is damaged, missing, or stands for nothing."""
        for size, name in self._unheld:
            if size <= self._held:
                self._findings.damaged(
                    Line.TRUST, name, f"its signed root is not that of this log's first {size} entries: two histories"
                )
        broken = next(((size, name) for size, name in self._unheld if size > self._held), None)
        for difference in self._differences:
            if broken is None or difference.size <= self._held:
                self._findings.damaged(
                    Line.FILES, tile_name(difference.tile), f"{_what(difference)} is not that of the entries"
                )
        if broken is not None:
            self._blame(*broken)
        self._account()

    def _blame(self, size: int, name: str) -> None:
        """The entries do not lead to a signed root: the lowest hash that they disagree with says where."""
        difference = next((difference for difference in self._differences if difference.size > self._held), None)
        if difference is None:
            problem = f"the signed root of {size} entries is not that of the entries and their tiles"
            self._findings.damaged(Line.TRUST, name, problem)
        elif difference.tile.level is None or difference.tile.level == 0:
            index = difference.tile.start + difference.position
            bundle = self._bundle_of(index)
            problem = f"entry {index} is not the one that {tile_name(difference.tile)} stands for and the log signed"
            self._findings.damaged(Line.FILES, tile_name(bundle), problem)
        else:
            problem = f"{_what(difference)} is not that of the entries, which do not lead to the root in {name} either"
            self._findings.damaged(Line.FILES, tile_name(difference.tile), problem)

    def _account(self) -> None:
        findings = self._findings
        missing = 0
        for tile, size in expected_tiles(self._size, self._heads):
            if tile not in self._stored:
                problem = f"expected a tile of the tree of {size} entries, found none"
                findings.uncheckable(Line.FILES, problem, resource=tile_name(tile))
                missing += 1
            if missing > MAXIMUM_FINDINGS:  # A signed size may be any, so that nothing here counts up to it.
                break
        for tile in sorted(self._stored, key=lambda t: (t.level is not None, t.level or 0, t.index, t.width)):
            if tile.start + tile.width > in_level(tile, self._size):
                findings.uncheckable(Line.FILES, _UNSIGNED, resource=tile_name(tile))
            elif self.complete and tile.partial and head_of(tile, self._heads) is None:
                self._account_unexplained(tile)
            elif tile.partial and tile.start + TILE_WIDTH <= in_level(tile, self._size):
                findings.note(f"{tile_name(tile)}: superseded by the full tile, and not deleted (a crash, probably)")

    def _account_unexplained(self, tile: Tile) -> None:
        """A partial tile is written for a checkpoint alone: where there is none, one is missing."""
        if tile.level in (None, 0):
            size = tile.start + tile.width
            problem = f"expected a checkpoint of {size} entries, as {tile_name(tile)} was written for one, found none"
            self._findings.uncheckable(Line.TRUST, problem, resource=checkpoint_name(size))
        else:
            self._findings.uncheckable(Line.FILES, "no checkpoint has a tile of this width", resource=tile_name(tile))

    def _compare(self, tile: Tile, tree: Tree) -> None:
        if tile in self._stored and (hashes := self._read_hash_tile(tile)) is not None:
            self._differs(tile, hashes, tree)
        # A bundle of the same place and width, if it isn't the one that the entries came from.
        if tile.level == 0:
            bundle = Tile(level=None, index=tile.index, width=tile.width)
            if bundle in self._stored and bundle != self._bundle_of(tile.start):
                entries = self._read_bundle(bundle)
                if entries is not None:
                    self._differs(bundle, [leaf_hash(entry) for entry in entries], tree)

    def _differs(self, tile: Tile, hashes: list[bytes], tree: Tree) -> None:
        row = tree.row(0, 0, tile.width)
        for position, found in enumerate(hashes):
            if found != row[position * _HASH : (position + 1) * _HASH]:
                self._differences.append(_Difference(size=self.edge.size, tile=tile, position=position))
                return

    def _bundle_of(self, index: int) -> Tile:
        """The bundle that an entry is read from."""
        start = index // TILE_WIDTH
        bundle = Tile(level=None, index=start, width=min(TILE_WIDTH, self._size - start * TILE_WIDTH))
        return bundle if bundle in self._stored else bundle.full

    def _read_widest(self, index: int) -> list[bytes] | None:
        bundle = self._inventory.widest_bundle(index)
        return None if bundle is None else self._read_bundle(bundle)

    def _read_bundle(self, bundle: Tile) -> list[bytes] | None:
        source = bundle if bundle in self._stored or bundle.full not in self._stored else bundle.full
        data = self._read(source)
        if data is None:
            return None
        try:
            return parse_bundle(data, width=source.width)[: bundle.width]
        except MalformedError as error:
            self._findings.damaged(Line.FILES, tile_name(source), str(error))
            return None

    def _read_hash_tile(self, tile: Tile) -> list[bytes] | None:
        data = self._read(tile)
        if data is None:
            return None
        try:
            return parse_hash_tile(data, width=tile.width)
        except MalformedError as error:
            self._findings.damaged(Line.FILES, tile_name(tile), str(error))
            return None

    def _read(self, tile: Tile) -> bytes | None:
        try:
            return self._files.read(tile_name(tile), limit_bytes=MAXIMUM_READ_BYTES)
        except NotFound:
            # What is missing is named once, when the tiles are accounted for.
            return None
        except StoreError as error:
            self._findings.uncheckable(Line.FILES, str(error), resource=tile_name(tile))
            return None


def _what(difference: _Difference) -> str:
    index = difference.tile.start + difference.position
    return f"entry {index}" if difference.tile.level is None else f"hash {difference.position}"
