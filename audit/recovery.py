"""Reading a stored log back whole: which checkpoint is the newest, and whether everything under it is what it signed.

Trusts the log's keys and nothing in the store. Nothing is written here: `log.py` repairs what a crash left once this
module has found that all else agrees. Called when a writer opens a log; the audit walks the same bytes.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from audit.checkpoint_text import checkpoint_text
from audit.log_keys import LogKeys
from audit.merkle import Tree, TreeHead, leaf_hash
from audit.note import Checkpoint
from audit.resources import (
    CHECKPOINT,
    ROOT,
    LogDamagedError,
    checkpoint_name,
    checkpoint_sizes,
    read_bundle,
    read_checkpoint,
    read_checkpoint_at,
    read_hash_tile,
    tile_name,
)
from audit.store import NotFound, Store
from audit.tiles import TILE_LEVELS, TILE_WIDTH, Tile, encode_hash_tile, entry_bundles, hash_tiles
from protocol.errors import MalformedError, SignatureError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A log's tree, recomputed from its entries, and the entries of its unfinished bundle."""

    tree: Tree
    tail: tuple[bytes, ...]


def newest_checkpoint(store: Store, keys: LogKeys) -> Checkpoint | None:
    """The newest durable checkpoint, with all cosignatures that either copy of it carries; None if there is no log.

    A crash leaves every file whole, so one that its size's log key has not signed is damage: `LogDamagedError`.
    """
    found: list[Checkpoint] = []
    for size in checkpoint_sizes(store)[-1:]:
        found.append(_verified(checkpoint_name(size), read_checkpoint_at(store, size), keys))
    with suppress(NotFound):
        found.append(_verified(CHECKPOINT, read_checkpoint(store, CHECKPOINT), keys))
    if not found:
        return None
    newest, *others = sorted(found, key=lambda checkpoint: -checkpoint.size)
    for other in others:
        if other.size == newest.size:
            if other.note.text != newest.note.text:
                raise LogDamagedError(CHECKPOINT, f"two signed roots at size {newest.size}")
            newest = newest.with_signatures(other.note.signatures)
    return newest


def rebuild(store: Store, head: TreeHead) -> Rebuilt:
    """Recompute the tree of `head.size` entries and compare every hash tile and the root.

    Raises `LogDamagedError`, whose `name` is the bundle if it disagrees with its hashes, the tile if it disagrees
    with entries that do lead to the signed root, the checkpoint if only that disagrees.
    """
    tree = Tree()
    tail: list[bytes] = []
    for bundle in entry_bundles(head.size):
        entries = read_bundle(store, bundle)
        for entry in entries:
            tree.append(leaf_hash(entry))
        tail = entries if bundle.partial else []
    intact = tree.head().root == head.root
    for tile in hash_tiles(head.size):
        expected = row_of(tree, tile)
        found = encode_hash_tile(read_hash_tile(store, tile))
        if found == expected:
            continue
        first = next(i for i in range(tile.width) if found[32 * i : 32 * i + 32] != expected[32 * i : 32 * i + 32])
        if intact:
            raise LogDamagedError(tile_name(tile), f"hash {first} is not that of the entries, which the log signed")
        raise _under(tile, first)
    if not intact:
        raise LogDamagedError(CHECKPOINT, "the signed root is not that of the entries and their tiles")
    return Rebuilt(tree=tree, tail=tuple(tail))


def check_earlier_checkpoints(store: Store, keys: LogKeys, tree: Tree) -> None:
    """Raise `LogDamagedError` unless every earlier checkpoint in the store says what the tree says at its size.

    Their signatures are not verified again: the text that the log would sign today is all they may hold. But where one
    key handed over to another, both must have signed: a silo that was away is to be shown that.
    """
    sizes = checkpoint_sizes(store)
    for size in sizes:
        if read_checkpoint_at(store, size).note.text != checkpoint_text(keys.current.name, tree.head(size)):
            raise LogDamagedError(checkpoint_name(size), "its root is not that of the newer checkpoint's tree")
    for index, former, key in keys.handovers:
        first = next((size for size in sizes if size > index), None)
        if first is None:
            raise LogDamagedError(checkpoint_name(index + 1), f"no checkpoint covers entry {index}, which rotates keys")
        for signer in (former, key):
            try:
                read_checkpoint_at(store, first).verify(signer)
            except SignatureError as error:
                problem = f"expected the keys before and after entry {index} to have signed it: {error}"
                raise LogDamagedError(checkpoint_name(first), problem) from error


def check_partial_tiles(store: Store, tiles: Iterable[Tile], tree: Tree) -> None:
    """Raise `LogDamagedError` unless the partial tiles of earlier sizes hold what the tree holds."""
    for tile in tiles:
        if tile.level is None:
            found = [leaf_hash(entry) for entry in read_bundle(store, tile)]
        else:
            found = read_hash_tile(store, tile)
        if encode_hash_tile(found) != row_of(tree, tile):
            raise LogDamagedError(tile_name(tile), "a partial tile differs from the tree that grew out of it")


def sort_tiles(names: Iterable[str], size: int) -> tuple[list[Tile], list[Tile]]:
    """The partial tiles that earlier checkpoints still need, and the leftovers of a crash, among stored names.

    Leftovers are tiles beyond `size` (a batch that was never signed) and partial tiles that a full one has superseded
    (an unfinished pruning). Names that are no tile's are none of ours.
    """
    needed, leftovers = [], []
    for name in names:
        try:
            tile = Tile.parse(name.removeprefix(ROOT))
        except MalformedError:
            continue
        in_level = size >> (TILE_LEVELS * (tile.level or 0))
        if tile.start + tile.width > in_level or (tile.partial and tile.start + TILE_WIDTH <= in_level):
            leftovers.append(tile)
        elif tile.partial:
            needed.append(tile)
    return needed, leftovers


def row_of(tree: Tree, tile: Tile) -> bytes:
    """The hashes that a tile of this name holds (for a bundle: its entries' leaf hashes), concatenated."""
    return tree.row(TILE_LEVELS * (tile.level or 0), tile.start, tile.start + tile.width)


def _under(tile: Tile, position: int) -> LogDamagedError:
    """The entries do not lead to the root, and this is the lowest hash that they disagree with."""
    index = tile.start + position
    if tile.level == 0:
        bundle = Tile(level=None, index=tile.index, width=tile.width)
        return LogDamagedError(tile_name(bundle), f"entry {index} is not the one whose hash {tile_name(tile)} holds")
    below = Tile(level=(tile.level or 0) - 1, index=index)
    return LogDamagedError(tile_name(below), f"its root is not hash {position} of {tile_name(tile)}")


def _verified(name: str, checkpoint: Checkpoint, keys: LogKeys) -> Checkpoint:
    try:
        keys.verify(checkpoint)
    except SignatureError as error:
        raise LogDamagedError(name, str(error)) from error
    return checkpoint
