"""Making a bundle: the log as it stands under one checkpoint, whoever goes on writing meanwhile.

What goes in is a function of that log: the tiles that a pruned store holds under this checkpoint, every checkpoint up
to it, and the objects that its entries or the agreement name. Debris, what lies beyond the checkpoint, owners, modes
and times stay out, so that the same log makes the same bytes. Nothing is verified and nothing repaired: a file that
is missing is a refusal, and one that is damaged goes in as it is. Called by `strongroom audit bundle`.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from audit.bundle import AGREEMENT, END, header, padded
from audit.entries import LogGenesis, parse_entry
from audit.expected_tiles import expected_tiles, in_level
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.merkle import HASH_BYTES
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint
from audit.resources import CHECKPOINT, checkpoint_name, object_name, tile_name
from audit.store import MAXIMUM_READ_BYTES, NotFound, StoreError
from audit.tiles import TILE_WIDTH, Tile, encode_bundle, encode_hash_tile, entry_bundles, parse_bundle, parse_hash_tile
from protocol.agreement import Agreement
from protocol.errors import MalformedError
from protocol.fields import format_digest

_DIGEST = re.compile(rb"sha256:([0-9a-f]{64})(?![0-9a-f])")


class Bundling:
    """One log's bundle in the making; `size` is the number of entries that it will hold."""

    def __init__(self, files: LogFiles, agreement: Agreement, *, upto: int | None = None) -> None:
        """`upto`: the size of an older checkpoint to end at. Raises `StoreError`, `MalformedError`."""
        self._files = files
        self._agreement = agreement
        # What a checkpoint needs is durable before it is: names that are listed after it hold all of that.
        newest = self._newest()
        self._inventory = Inventory.take(files.listed())
        if self._inventory.notes and self._inventory.notes[-1] > newest and self._newest() == newest:
            # A crash between two writes left `checkpoint` one batch behind; nobody goes on writing.
            newest = self._inventory.notes[-1]
            self._inventory = Inventory.take(files.listed())
        self.size = newest if upto is None else upto
        if upto is not None and (upto > newest or upto not in self._inventory.notes):
            raise StoreError(f"expected the size of one of this log's checkpoints, found {upto}: none has it")
        if self.size == 0:
            raise StoreError(f"{CHECKPOINT}: expected a log with entries, found an empty one")
        self._require_agreement()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names in the store that are no part of a log."""
        return tuple(name for name, _ in self._inventory.unknown)

    def blocks(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[bytes]:
        """The bundle's bytes, piece by piece; raises `StoreError`, `MalformedError` for what is missing or unreadable.

        `progress` is told (entries done, entries in all) now and then.
        """
        yield from _member(AGREEMENT, self._agreement.source)
        noted = [size for size in self._inventory.notes if size <= self.size]
        newest = checkpoint_name(self.size) if noted and noted[-1] == self.size else CHECKPOINT
        head = self._read(newest)
        yield from _member(CHECKPOINT, head)
        for name in sorted(map(checkpoint_name, noted)):
            yield from _member(name, head if name == newest else self._read(name))
        for digest in sorted(self._named(progress)):
            yield from _member(object_name(digest), self._read(object_name(digest)))
        for tile in sorted(self._tiles(noted), key=tile_name):
            yield from _member(tile_name(tile), self._tile(tile))
        yield END
        progress(self.size, self.size)

    def _newest(self) -> int:
        return Checkpoint.parse(self._read(CHECKPOINT)).size

    def _require_agreement(self) -> None:
        genesis = parse_entry(self._entries(next(entry_bundles(self.size)))[0])
        if not isinstance(genesis, LogGenesis) or genesis.agreement != self._agreement.digest:
            found = format_digest(genesis.agreement) if isinstance(genesis, LogGenesis) else f"a {genesis.KIND} first"
            raise MalformedError(f"expected a log of agreement {format_digest(self._agreement.digest)}, found {found}")

    def _named(self, progress: Callable[[int, int], None]) -> set[bytes]:
        """The stored objects whose digest stands in an entry or in the agreement, of whatever kind and version."""
        objects = self._inventory.objects
        named = {self._agreement.digest, *map(_raw, _DIGEST.findall(self._agreement.source))}
        for bundle in entry_bundles(self.size):
            for entry in self._entries(bundle):
                named.update(digest for digest in map(_raw, _DIGEST.findall(entry)) if digest in objects)
            progress(bundle.start, self.size)
        return named & objects

    def _tiles(self, heads: Sequence[int]) -> set[Tile]:
        tiles = {tile for tile, _ in expected_tiles(self.size, heads)}
        # A partial tile without its checkpoint tells of one that was removed: a verdict must be able to say so.
        for tile in self._inventory.tiles:
            if tile.partial and tile.start + tile.width <= in_level(tile, self.size) < tile.start + TILE_WIDTH:
                tiles.add(tile)
        return tiles

    def _entries(self, bundle: Tile) -> list[bytes]:
        for tile in dict.fromkeys((bundle, bundle.full)):
            try:
                data = self._read(tile_name(tile))
                return parse_bundle(data, width=tile.width)[: bundle.width]
            except NotFound:
                continue
            except MalformedError as error:
                raise MalformedError(f"{tile_name(tile)}: {error}") from error
        raise NotFound(f"{tile_name(bundle)}: expected a tile of the tree of {self.size} entries, found none")

    def _tile(self, tile: Tile) -> bytes:
        """A tile as it is stored or, where a full one has superseded it meanwhile, the beginning of that."""
        try:
            return self._read(tile_name(tile))
        except NotFound:
            if not tile.partial:
                raise
        if tile.level is None:
            return encode_bundle(self._entries(tile))
        full = tile_name(tile.full)
        try:
            data = self._read(full)
        except NotFound as error:
            raise NotFound(f"{tile_name(tile)}: expected it or {full}, found neither") from error
        try:
            return encode_hash_tile(parse_hash_tile(data, width=len(data) // HASH_BYTES)[: tile.width])
        except MalformedError as error:
            raise MalformedError(f"{full}: {error}") from error

    def _read(self, name: str) -> bytes:
        limit = 2 * MAXIMUM_NOTE_BYTES if name.startswith(CHECKPOINT) else MAXIMUM_READ_BYTES
        return self._files.read(name, limit_bytes=limit)


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield header(name, len(data)) + data + bytes(padded(len(data)) - len(data))


def _raw(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode("ascii"))
