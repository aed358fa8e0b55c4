"""What the log's files are called in the store, and reading them so that every failure names the file.

    log/checkpoint                        the newest signed checkpoint
    log/checkpoints/<size>.note           every checkpoint ever signed, with its cosignatures
    log/tile/<level>/…, tile/entries/…    hash tiles and entry bundles (C2SP tlog-tiles)
    log/objects/sha256/<aa>/<hex>         what entries name by digest

Trusts nothing: what is returned is well-formed, and authentic only once it leads to a signed root. Called by the log's
writer, reader and recovery.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Protocol

from audit.merkle import HASH_BYTES
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint
from audit.store import MAXIMUM_READ_BYTES, NotFound, Store
from audit.tiles import MAXIMUM_BUNDLE_BYTES, TILE_WIDTH, Tile, entry_bundles, parse_bundle, parse_hash_tile
from protocol.errors import MalformedError, ProtocolError

ROOT = "log/"
CHECKPOINT = "log/checkpoint"
CHECKPOINTS = "log/checkpoints/"
TILES = "log/tile/"
_CHECKPOINT_NAME = re.compile(r"log/checkpoints/(0|[1-9][0-9]{0,18})\.note", re.ASCII)


class Readable(Protocol):
    """What can be read by name: a store, or a log's files wherever they lie."""

    def read(self, name: str, *, limit_bytes: int) -> bytes:
        """A resource's bytes; raises `StoreError`, `NotFound` if there is no such name."""
        ...


class LogDamagedError(ProtocolError):
    """The stored log contradicts itself or its signed checkpoint. `name` is the resource that does not match."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


def tile_name(tile: Tile) -> str:
    return ROOT + tile.path


def checkpoint_name(size: int) -> str:
    return f"{CHECKPOINTS}{size}.note"


def object_name(digest: bytes) -> str:
    """Where the object with this SHA-256 (32 bytes) lies."""
    return f"log/objects/sha256/{digest.hex()[:2]}/{digest.hex()}"


def checkpoint_sizes(store: Store) -> list[int]:
    """The sizes that the store holds a checkpoint for, ascending."""
    matches = (_CHECKPOINT_NAME.fullmatch(name) for name in store.list(CHECKPOINTS))
    return sorted(int(match[1]) for match in matches if match)


def read_checkpoint(store: Readable, name: str) -> Checkpoint:
    """A checkpoint, unverified; raises `LogDamagedError` if it is not one, `NotFound` if it is not there."""
    try:
        return Checkpoint.parse(store.read(name, limit_bytes=MAXIMUM_NOTE_BYTES))
    except MalformedError as error:
        raise LogDamagedError(name, str(error)) from error


def read_checkpoint_at(store: Readable, size: int) -> Checkpoint:
    """As `read_checkpoint`, for one size."""
    checkpoint = read_checkpoint(store, checkpoint_name(size))
    if checkpoint.size != size:
        raise LogDamagedError(checkpoint_name(size), f"expected a checkpoint of size {size}, found {checkpoint.size}")
    return checkpoint


def read_bundle(store: Readable, bundle: Tile, *, or_full: bool = False) -> list[bytes]:
    """The entries of one bundle; with `or_full`, else the first ones of the full bundle that has superseded it."""
    name, data, width = _read_tile(store, bundle, or_full, MAXIMUM_BUNDLE_BYTES)
    try:
        return parse_bundle(data, width=width)[: bundle.width]
    except MalformedError as error:
        raise LogDamagedError(name, str(error)) from error


def read_hash_tile(store: Readable, tile: Tile, *, or_full: bool = False) -> list[bytes]:
    """The hashes of one tile; with `or_full`, else the first ones of the full tile that has superseded it."""
    name, data, width = _read_tile(store, tile, or_full, TILE_WIDTH * HASH_BYTES)
    try:
        return parse_hash_tile(data, width=width)[: tile.width]
    except MalformedError as error:
        raise LogDamagedError(name, str(error)) from error


def holds_log(store: Store) -> bool:
    """Whether a log was ever signed here, be it that a crash kept `checkpoint` itself from being written."""
    return store.exists(CHECKPOINT) or bool(checkpoint_sizes(store))


def read_first_entry(store: Store) -> bytes:
    """Leaf 0, which says whose log this is; raises `NotFound` where no log was signed, `LogDamagedError`."""
    sizes = checkpoint_sizes(store)
    size = sizes[0] if sizes else read_checkpoint(store, CHECKPOINT).size
    bundle = next(entry_bundles(size), None)
    if bundle is None:
        raise LogDamagedError(CHECKPOINT, "expected a log with entries, found an empty one")
    return read_bundle(store, bundle, or_full=True)[0]


def read_entries(store: Store) -> Iterator[bytes]:
    """All entries under the newest checkpoint in the store, whoever signed it; raises as `read_bundle` does."""
    sizes = checkpoint_sizes(store)[-1:]
    with suppress(NotFound):
        sizes.append(read_checkpoint(store, CHECKPOINT).size)
    for bundle in entry_bundles(max(sizes, default=0)):
        yield from read_bundle(store, bundle, or_full=True)


def read_object(store: Readable, digest: bytes) -> bytes:
    """An object, checked against its digest; raises `LogDamagedError` if it is missing or another."""
    name = object_name(digest)
    try:
        data = store.read(name, limit_bytes=MAXIMUM_READ_BYTES)
    except NotFound as error:
        raise LogDamagedError(name, "expected an object, found none") from error
    if sha256(data).digest() != digest:
        raise LogDamagedError(name, f"expected SHA-256 {digest.hex()}, found {sha256(data).hexdigest()}")
    return data


def _read_tile(store: Readable, tile: Tile, or_full: bool, limit_bytes: int) -> tuple[str, bytes, int]:
    """Name, bytes and width of what was found."""
    for candidate in (tile, tile.full) if or_full else (tile,):
        try:
            return tile_name(candidate), store.read(tile_name(candidate), limit_bytes=limit_bytes), candidate.width
        except NotFound:
            continue
    raise LogDamagedError(tile_name(tile), "expected a tile, found none")
