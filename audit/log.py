"""The log in a store: one writer, any number of readers.

`LogWriter` runs in the enclave and keeps the tree in memory, 64 bytes an entry, so that proofs cost microseconds and
rest on nothing that the store could have changed. `LogReader` serves the same reads to gateways and auditors; it
authenticates nothing, and whoever uses its answers verifies them against a signed checkpoint.

A batch is one append, and its order is the promise: objects, entry bundles, hash tiles, `checkpoints/<size>.note`,
`checkpoint`. Each write is atomic and durable before the next begins, and none replaces bytes that a signed checkpoint
rests on. So the newest checkpoint that verifies under the log's key is the truth, and what lies beyond it never was:

    stopped at the write of         the store then holds, failed (or failed but persisted)    `open` then
    -------------------------------------------------------------------------------------------------------------
    1  an object                    nothing (an object that no entry names)                   ignores it
    2  an entry bundle              the former log (and a bundle beyond it)                   deletes the bundle
    3  a hash tile                  the former log, with 2 (and a tile beyond it)             deletes them
    4  checkpoints/<size>.note      as 3 (the new log; `checkpoint` is the former)            as 3 (completes it)
    5  checkpoint                   as 4, persisted (the new log)                             completes it (nothing)
    6  pruning                      the new log, some superseded partial tiles left           deletes the rest
    7  checkpoints/<size>.note,     the former cosignatures (more of them in the note         nothing (completes it)
       cosigned                     than in `checkpoint`)
    8  checkpoint, cosigned         as 7, persisted (all cosignatures)                        completes it (nothing)
    9  a repair by `open` itself    one of the above                                          the same again

After a failed write the writer refuses to go on, because the store may hold a checkpoint that the writer does not know
of and another of the same size must never be signed; to open the log again finds out. What nothing here can see is a
store that was set back to an earlier valid state: the silos' heads do (DESIGN.md §8).

A log has one key after the other (`audit.log_keys`): the batch that retires one is signed by it and by its successor,
in one write, so that a crash leaves either the log under the former key or the log under the new one.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256

from audit.checkpoint_text import checkpoint_text
from audit.log_keys import LogKeys
from audit.merkle import Tree, TreeHead, consistency_proof, inclusion_proof, leaf_hash, root_hash
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.proof import Receipt
from audit.recovery import (
    check_earlier_checkpoints,
    check_partial_tiles,
    newest_checkpoint,
    rebuild,
    row_of,
    sort_tiles,
)
from audit.resources import (
    CHECKPOINT,
    TILES,
    LogDamagedError,
    checkpoint_name,
    checkpoint_sizes,
    object_name,
    read_bundle,
    read_checkpoint,
    read_checkpoint_at,
    read_object,
    tile_name,
)
from audit.store import NotFound, Store, StoreError
from audit.tiled_nodes import TiledNodes, tile_at
from audit.tiles import (
    MAXIMUM_ENTRY_BYTES,
    TILE_WIDTH,
    Tile,
    encode_bundle,
    entry_bundles,
    hash_tiles,
)
from protocol.errors import ProtocolError, SignatureError
from protocol.keys import SigningKey

__all__ = ["LogDamagedError", "LogExistsError", "LogReader", "LogStoppedError", "LogWriter"]


class LogExistsError(ProtocolError):
    """A log was to be created where there is one."""


class LogStoppedError(ProtocolError):
    """An earlier write failed, or another writer is at work: open the log again."""


class LogWriter:
    """The one writer of a log. Reads and proofs are safe from any thread; writes are serialised."""

    def __init__(
        self, store: Store, key: SigningKey | None, keys: LogKeys, tree: Tree, tail: tuple[bytes, ...]
    ) -> None:
        """Not called from outside: use `create` or `open`."""
        self.keys = keys
        self._store = store
        self._key = key
        self._tree = tree
        self._tail = tail
        self._newest: Checkpoint | None = None
        self._stopped = False
        self._lock = threading.RLock()

    @classmethod
    def create(cls, store: Store, origin: str, log_key: SigningKey) -> "LogWriter":
        """Begin a log; nothing is written before the first append. Raises `LogExistsError`."""
        if store.exists(CHECKPOINT) or checkpoint_sizes(store):
            raise LogExistsError(f"{CHECKPOINT}: expected no log, found one")
        writer = cls(store, log_key, LogKeys.first(origin, log_key.public), Tree(), ())
        # A crash before the very first checkpoint left a log that never was.
        _, leftovers = sort_tiles(store.list(TILES), 0)
        writer._delete(leftovers)
        return writer

    @classmethod
    def open(cls, store: Store, origin: str, log_key: SigningKey | None, *, keys: LogKeys | None = None) -> "LogWriter":
        """Open a log, from any state that a crash can leave (see the module's table).

        `keys`: all that it has had, if `log_key` is not its first. `log_key` is None where the present one is lost: the
        next batch must bring a successor. Reads and recomputes everything under the newest checkpoint, which the key of
        its size has signed. Raises `NotFound` if there is no checkpoint at all, `LogDamagedError` naming the resource
        that does not match.
        """
        if keys is None and log_key is not None:
            keys = LogKeys.first(origin, log_key.public)
        if keys is None or (log_key is not None and keys.current.public != log_key.public.raw):
            raise ValueError("log keys: expected the log's present key to be the newest of them")
        checkpoint = newest_checkpoint(store, keys)
        if checkpoint is None:
            raise NotFound(f"store: {CHECKPOINT}: no such name")
        rebuilt = rebuild(store, checkpoint.head)
        check_earlier_checkpoints(store, keys, rebuilt.tree)
        needed, leftovers = sort_tiles(store.list(TILES), checkpoint.size)
        check_partial_tiles(store, needed, rebuilt.tree)
        # All agrees: from here on what a crash left is put right. Stopped anywhere, the next open does the same.
        writer = cls(store, log_key, keys, rebuilt.tree, rebuilt.tail)
        writer._publish(checkpoint)
        writer._delete(leftovers)
        return writer

    @property
    def log_key(self) -> VerifierKey:
        """The key that signs now."""
        return self.keys.current

    @property
    def size(self) -> int:
        """Entries under the newest durable checkpoint."""
        return self._newest.size if self._newest else 0

    @property
    def checkpoint(self) -> bytes:
        """The newest durable checkpoint, a signed note; raises `NotFound` before the first append."""
        return self.checkpoint_at(self.size).encode()

    def root(self, size: int | None = None) -> bytes:
        """The root hash (32 bytes) at a size up to the newest, or there."""
        return self._tree.head(_within(size, self.size)).root

    def head(self) -> TreeHead:
        """Size and root of the newest durable checkpoint."""
        return self._tree.head(self.size)

    def entry(self, index: int) -> bytes:
        """An entry's bytes, checked against the tree; raises `LogDamagedError` if the store has changed them."""
        if not 0 <= index < self.size:
            raise ValueError(f"entry: expected an index below {self.size}, found {index}")
        bundle = tile_at(None, index, self.size)
        return self._checked(bundle, index, read_bundle(self._store, bundle, or_full=True)[index - bundle.start])

    def entries(self) -> Iterator[bytes]:
        """All entries in order, each bundle read once; raises `LogDamagedError` as `entry` does."""
        for bundle in entry_bundles(self.size):
            for index, entry in enumerate(read_bundle(self._store, bundle, or_full=True), bundle.start):
                yield self._checked(bundle, index, entry)

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """The inclusion proof of an entry in the tree of `size` entries (the newest, unless told)."""
        return inclusion_proof(self._tree, index, _within(size, self.size))

    def consistency(self, old_size: int, new_size: int | None = None) -> tuple[bytes, ...]:
        """The proof that the tree of `new_size` (the newest, unless told) extends the one of `old_size`."""
        return consistency_proof(self._tree, old_size, _within(new_size, self.size))

    def checkpoint_at(self, size: int) -> Checkpoint:
        """The checkpoint that was signed at a size, with its cosignatures; raises `NotFound` if none was."""
        newest = self._newest
        if newest and newest.size == size:
            return newest
        checkpoint = read_checkpoint_at(self._store, size)
        if size > self.size or checkpoint.note.text != checkpoint_text(self.log_key.name, self._tree.head(size)):
            raise LogDamagedError(checkpoint_name(size), "its root is not that of this log's tree")
        try:
            self.keys.verify(checkpoint)
        except SignatureError as error:
            raise LogDamagedError(checkpoint_name(size), str(error)) from error
        return checkpoint

    def first_checkpoint_above(self, index: int) -> Checkpoint:
        """The first checkpoint that covers an entry; raises `NotFound` if none does."""
        size = next((size for size in checkpoint_sizes(self._store) if size > index), self.size)
        return self.checkpoint_at(size)

    def receipt(self, index: int, size: int | None = None) -> Receipt:
        """The receipt for an entry under the checkpoint of `size` (the newest, unless told)."""
        checkpoint = self.checkpoint_at(_within(size, self.size))
        return Receipt(index=index, proof=self.inclusion(index, checkpoint.size), checkpoint=checkpoint)

    def get_object(self, digest: bytes) -> bytes:
        """An object by its SHA-256, checked; raises `LogDamagedError`."""
        return read_object(self._store, digest)

    def put_object(self, data: bytes) -> bytes:
        """Make an object durable, before the entry that names it is appended. Returns its SHA-256 (32 bytes)."""
        digest = sha256(data).digest()
        with suppress(NotFound):
            if self._store.read(object_name(digest), limit_bytes=len(data)) == data:
                return digest
        # A crash here leaves an object that no entry names, or none.
        self._store.write(object_name(digest), data)
        return digest

    def append(self, entries: Sequence[bytes], *, successor: SigningKey | None = None) -> Checkpoint:
        """Append one batch, durably, and sign the checkpoint that covers it.

        `successor`: the log's key from here on; the batch's first entry names it. The present key, unless it is lost,
        signs this checkpoint too, and none after it. `ValueError` for an empty batch or an entry of more than 65,535
        bytes, before anything is written. Any other error stops the writer: `LogStoppedError` from then on.
        """
        if not entries or any(len(entry) > MAXIMUM_ENTRY_BYTES for entry in entries):
            raise ValueError(f"append: expected entries of at most {MAXIMUM_ENTRY_BYTES} bytes")
        signers = [key for key in (self._key, successor) if key is not None]
        if not signers:
            raise ValueError("append: expected a successor of the lost log key")
        keys = self.keys
        if successor is not None:
            keys = keys.followed_by(successor.public, since=self.size, handed_over=self._key is not None)
        with self._writing():
            old_size = self.size
            tail = (*self._tail, *entries)
            first = old_size - len(self._tail)
            for entry in entries:
                self._tree.append(leaf_hash(entry))
            head = self._tree.head()
            for bundle in entry_bundles(head.size, old_size=old_size):
                # A crash here leaves bundles beyond the checkpoint. A wider bundle has another name than the narrower
                # one that the checkpoint needs.
                start = bundle.start - first
                self._store.write(tile_name(bundle), encode_bundle(tail[start : start + bundle.width]))
            for tile in hash_tiles(head.size, old_size=old_size):
                # A crash here leaves, besides, tiles beyond the checkpoint, under names of their own again.
                self._store.write(tile_name(tile), row_of(self._tree, tile))
            # Everything under the new root is durable: now, and only now, it may be signed.
            signed = [Checkpoint.sign(keys.current.name, head, signer) for signer in signers]
            checkpoint = signed[0].with_signatures([line for each in signed for line in each.note.signatures])
            self.keys, self._key = keys, signers[-1]
            self._publish(checkpoint)
            self._tail = tail[len(tail) - head.size % TILE_WIDTH :]
            with suppress(StoreError):  # The batch is durable; what is not pruned now is at the next open.
                self._prune(old_size, head.size)
            return checkpoint

    def add_cosignatures(self, size: int, lines: Sequence[str]) -> Checkpoint:
        """Add cosignature lines, which the caller has verified, to the checkpoint of `size`; durable on return.

        A key that has a line keeps its first. Raises `MalformedError` for a line that is none or for more than 100,
        `NotFound` if no checkpoint was signed at that size; any other error stops the writer.
        """
        signatures = [NoteSignature.parse(line) for line in lines]
        with self._lock:
            checkpoint = self.checkpoint_at(size).with_signatures(signatures)
            with self._writing():
                if size == self.size:
                    self._publish(checkpoint)
                else:
                    # A crash here leaves the note with its former cosignatures or with all of them.
                    self._store.write(checkpoint_name(size), checkpoint.encode())
            return checkpoint

    def _checked(self, bundle: Tile, index: int, entry: bytes) -> bytes:
        if leaf_hash(entry) != self._tree.node(0, index):
            raise LogDamagedError(tile_name(bundle), f"entry {index} is not the one that was logged")
        return entry

    def _publish(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint the newest, in both places, unless it is there already."""
        encoded = checkpoint.encode()
        for name in (checkpoint_name(checkpoint.size), CHECKPOINT):
            # A crash before the first leaves the former log; between the two, one that is complete but for
            # `checkpoint`, which `open` then writes.
            if not (self._store.exists(name) and self._store.read(name) == encoded):
                self._store.write(name, encoded)
        self._newest = checkpoint

    def _prune(self, old_size: int, new_size: int) -> None:
        """Delete the partial tiles that this batch's full ones, durable and signed for, have superseded."""
        for tile in (*entry_bundles(new_size, old_size=old_size), *hash_tiles(new_size, old_size=old_size)):
            if not tile.partial:
                for name in self._store.list(f"{tile_name(tile)}.p/"):
                    # A crash here leaves some of them, which are correct and of no use.
                    self._store.delete(name)

    def _delete(self, leftovers: Sequence[Tile]) -> None:
        for tile in leftovers:
            self._store.delete(tile_name(tile))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._stopped:
                raise LogStoppedError("log: an earlier write failed; expected the log to be opened again")
            # Whatever ends the writes early, what the store holds is unknown; a same-sized other checkpoint is not
            # to be signed on top of it.
            self._stopped = True
            found = self._store.read(CHECKPOINT) if self._store.exists(CHECKPOINT) else None
            if found != (self._newest.encode() if self._newest else None):
                raise LogStoppedError(f"{CHECKPOINT}: expected the one this writer wrote: is there a second writer?")
            yield
            self._stopped = False


class LogReader:
    """Reads a log as it stood at the newest checkpoint when this reader was made. Trusts nothing, verifies nothing.

    Raises `NotFound` if there is no checkpoint; every method `LogDamagedError` for what is missing or malformed. For
    one thread at a time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest = read_checkpoint(store, CHECKPOINT)
        self._nodes = TiledNodes(store, self._newest.size)

    @property
    def size(self) -> int:
        return self._newest.size

    @property
    def checkpoint(self) -> bytes:
        """The newest checkpoint, a signed note."""
        return self._newest.encode()

    def newest(self) -> Checkpoint:
        """The newest checkpoint, unverified."""
        return self._newest

    def root(self, size: int | None = None) -> bytes:
        """The root hash at a size, from the tiles (not from the checkpoint)."""
        return root_hash(self, _within(size, self.size))

    def entry(self, index: int) -> bytes:
        """An entry's bytes."""
        return self._nodes.entry(index)

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """All entries from `start`, in order, one bundle in memory at a time."""
        for bundle in entry_bundles(self.size, old_size=start):
            yield from read_bundle(self._store, bundle, or_full=True)[max(0, start - bundle.start) :]

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """As `LogWriter.inclusion`, from the tiles."""
        return inclusion_proof(self, index, _within(size, self.size))

    def consistency(self, old_size: int, new_size: int | None = None) -> tuple[bytes, ...]:
        """As `LogWriter.consistency`, from the tiles."""
        return consistency_proof(self, old_size, _within(new_size, self.size))

    def checkpoint_sizes(self) -> list[int]:
        """The sizes that a checkpoint is kept for, ascending."""
        return checkpoint_sizes(self._store)

    def checkpoint_at(self, size: int) -> Checkpoint:
        """The checkpoint kept for a size, unverified; `NotFound` if there is none."""
        return read_checkpoint_at(self._store, size)

    def receipt(self, index: int, size: int | None = None) -> Receipt:
        """As `LogWriter.receipt`."""
        checkpoint = self._newest if size is None else self.checkpoint_at(size)
        return Receipt(index=index, proof=self.inclusion(index, checkpoint.size), checkpoint=checkpoint)

    def get_object(self, digest: bytes) -> bytes:
        """An object by its SHA-256, checked."""
        return read_object(self._store, digest)

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree, out of the tile that holds its leaves (`merkle.Nodes`)."""
        return self._nodes.node(level, index)


def _within(size: int | None, durable: int) -> int:
    """A size that is durable; a writer's tree is ahead of it while a batch is being written."""
    if size is None:
        return durable
    if not 0 <= size <= durable:
        raise ValueError(f"size: expected 0 to {durable}, found {size}")
    return size
