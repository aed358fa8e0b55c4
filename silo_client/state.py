"""What a silo must not forget: the log that it knows, its control variate, and the update whose outcome is open.

One JSON file a federation, replaced whole (temporary file, fsync, rename), is the truth. Large things (a sealed update,
a control variate) are files beside it that it names; they are durable before it names them and deleted after it has
stopped to, so that a crash anywhere leaves the state before the change or the state after it, and at worst a file that
nothing names, which `SiloState.open` removes.

    change        crash before the JSON is replaced     after
    advance       the old head; cosigned nothing        the new head; the cosignature may not have left
    adopt         the former log key; asks again        the new key, and the head under which it was handed over
    hold          no update; trains again               the update is sent again, the same bytes
    settle        pending; asks for its outcome again   c_i⁺ and parent committed, or rolled back; files removed later

The store is the silo's own. Losing it costs a `control.reset`; rolling it back costs this silo its worth
as a witness, which is why the agreement's `faulty` counts silos that lost their memory.
"""

from dataclasses import dataclass, replace
from hashlib import sha256

from audit.log_keys import LogKeys
from audit.note import Checkpoint
from audit.store import NotFound, Store, StoreSource
from audit.vouching import Voucher
from protocol.errors import MalformedError, ProtocolError
from protocol.keys import VerifyingKey
from protocol.record import Bytes, Count, Digest, Id16, Id32, Key32, Name, Note, Record, Text
from protocol.session import Pending

_PIECE_BYTES = 2**20


class StateError(ProtocolError):
    """The silo's own state is damaged, belongs to another silo, or can't be written; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile(Record):
    """A file beside the state, and the SHA-256 of its bytes."""

    name: Text
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey(Record):
    """A log key that this silo knows, as `audit.log_keys.KeyInForce` has it."""

    key: Key32
    since: Count
    handed_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Record):
    """One attempt at a round."""

    round: Count
    attempt: Count

    @property
    def order(self) -> tuple[int, int]:
        """Attempts compare by round, then by number."""
        return self.round, self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedUpdate(Record):
    """An update that was sealed and whose outcome isn't known: its bytes, and c_i⁺ where there is one."""

    round: Count
    attempt: Count
    boot_id: Id32
    upload_id: Id16
    digest: Digest
    blob: Text
    control: StoredFile | None

    @property
    def order(self) -> tuple[int, int]:
        """Attempts compare by round, then by number."""
        return self.round, self.attempt

    def announced(self) -> Pending:
        """As a `Join` names it."""
        return Pending(round=self.round, attempt=self.attempt, upload_id=self.upload_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory(Record, kind="silo-state"):
    silo: Name
    agreement: Digest
    log_keys: tuple[KnownKey, ...]
    head: Note | None
    cosigned_at: Count
    control_epoch: Count
    control: StoredFile | None
    parent: Id16 | None
    pending: SealedUpdate | None
    last_sealed: Attempt | None


class SiloState:
    """One silo's memory of one federation. Every method that changes it returns once the change is durable."""

    def __init__(self, store: Store, folder: str, memory: _Memory) -> None:
        """Use `open`."""
        self._store = store
        self._folder = folder
        self._memory = memory
        self._head = None if memory.head is None else Checkpoint.parse(memory.head.encode())
        self._failed = False

    @classmethod
    def open(cls, store: Store, *, agreement: bytes, silo: str) -> "SiloState":
        """The state for one agreement (32-byte digest), empty at first; raises `StateError` if it is damaged.

        Only one process may have it open, for it removes files that nothing names.
        """
        state = cls.read_only(store, agreement=agreement, silo=silo)
        state._remove_debris()
        return state

    @classmethod
    def read_only(cls, store: Store, *, agreement: bytes, silo: str) -> "SiloState":
        """The same, to look at while another process has it open."""
        folder = agreement.hex()[:32]
        try:
            memory = _Memory.parse(store.read(f"{folder}/state.json"))
            if memory.head is not None:
                Checkpoint.parse(memory.head.encode())
        except NotFound:
            memory = _empty(agreement, silo)
        except MalformedError as error:
            raise StateError(
                f"{folder}/state.json: expected a silo's state, found something else ({error}); restore it from a "
                "backup of this very moment, or delete it: the next update then causes a control.reset"
            ) from error
        if (memory.agreement, memory.silo) != (agreement, silo):
            raise StateError(f"{folder}/state.json: expected the state of {silo}, found that of {memory.silo}")
        return cls(store, folder, memory)

    # What is known

    @property
    def log_key(self) -> VerifyingKey | None:
        """The present key of the one log that this silo ever believed under this agreement."""
        return VerifyingKey(self._memory.log_keys[-1].key) if self._memory.log_keys else None

    def log_keys(self, origin: str) -> LogKeys | None:
        """All keys of that log that this silo has known, the retired ones too; None before the first."""
        keys: LogKeys | None = None
        for known in self._memory.log_keys:
            key = VerifyingKey(known.key)
            if keys is None:
                keys = LogKeys.first(origin, key, since=known.since)
            else:
                keys = keys.followed_by(key, since=known.since, handed_over=known.handed_over)
        return keys

    @property
    def head(self) -> Checkpoint | None:
        """The newest checkpoint that was verified, with the log's signature on it."""
        return self._head

    @property
    def cosigned_at(self) -> int:
        """Unix time of this silo's newest cosignature (0 before the first)."""
        return self._memory.cosigned_at

    @property
    def control_epoch(self) -> int:
        """How often all controls had been reset when this silo last heard of it."""
        return self._memory.control_epoch

    @property
    def parent(self) -> bytes | None:
        """Upload id (16 bytes) of this silo's last update that was used."""
        return self._memory.parent

    @property
    def pending(self) -> SealedUpdate | None:
        """The sealed update whose outcome isn't known yet."""
        return self._memory.pending

    @property
    def last_sealed(self) -> tuple[int, int] | None:
        """The newest (round, attempt) that this silo sealed an update for."""
        return None if self._memory.last_sealed is None else self._memory.last_sealed.order

    def has_control(self) -> bool:
        """False while c_i = 0."""
        return self._memory.control is not None

    def read_control(self, out: memoryview) -> None:
        """Fill `out` with c_i (little-endian float32 over all parameters); raises `StateError` if it is damaged."""
        control = self._memory.control
        if control is None:
            out[:] = bytes(len(out))
            return
        try:
            source = self._store.open(f"{self._folder}/{control.name}")
        except NotFound as error:
            raise _damaged(control.name, "missing") from error
        try:
            if source.size() != len(out):
                raise _damaged(control.name, f"of {source.size()} bytes instead of {len(out)}")
            source.read_into(0, out)
        finally:
            source.close()
        if sha256(out).digest() != control.digest:
            raise _damaged(control.name, "not as it was written")

    def open_pending(self) -> StoreSource:
        """The pending update's sealed bytes."""
        if self._memory.pending is None:
            raise ValueError("no update is pending")
        return self._store.open(f"{self._folder}/{self._memory.pending.blob}")

    # What changes

    def pin(self, log_key: VerifyingKey) -> None:
        """Believe in this log and no other; only where none is known yet."""
        if self._memory.log_keys:
            raise ValueError("a log is pinned already, and for ever")
        first = KnownKey(key=log_key.raw, since=0, handed_over=False)
        self._replace(replace(self._memory, log_keys=(first,)))

    def adopt(self, keys: LogKeys, head: Checkpoint) -> None:
        """Follow the pinned log to the newest of `keys`, and to the `head` under which it took over; for good."""
        known = tuple(
            KnownKey(key=item.key.public, since=item.since, handed_over=item.handed_over) for item in keys.in_force
        )
        former = self._memory.log_keys
        if not former or known[: len(former)] != former or len(known) == len(former):
            raise ValueError("expected successors of the keys that are known")
        self._replace(replace(self._memory, log_keys=known, head=_text(head)))

    def advance(self, head: Checkpoint, *, cosigned_at: int | None = None) -> None:
        """Take a newer head. Call it before a cosignature leaves, with its time."""
        time = self._memory.cosigned_at if cosigned_at is None else cosigned_at
        self._replace(replace(self._memory, head=_text(head), cosigned_at=time))

    def hold(self, update: SealedUpdate) -> None:
        """Remember a sealed update, whose files are durable, before a byte of it is sent."""
        if self._memory.pending is not None:
            raise ValueError("another update is pending")
        sealed = Attempt(round=update.round, attempt=update.attempt)
        self._replace(replace(self._memory, pending=update, last_sealed=sealed))

    def settle(self, *, head: Checkpoint, used: bool | None, control_epoch: int) -> None:
        """Apply what an announcement proves, in one change.

        `used`: whether the pending update was (c_i ← c_i⁺, parent ← it), wasn't (both stay), or isn't known (None). A
        newer epoch makes c_i zero and forgets the parent.
        """
        memory = self._memory
        pending = memory.pending
        if used is not None and pending is not None:
            memory = replace(memory, pending=None)
            if used:
                memory = replace(memory, control=pending.control, parent=pending.upload_id)
        if control_epoch > memory.control_epoch:
            memory = replace(memory, control_epoch=control_epoch, control=None, parent=None)
        memory = replace(memory, head=_text(head))
        if memory != self._memory:
            self._replace(memory)
            # A crash here leaves files that nothing names; `open` removes them.
            self._remove_debris()

    # Files beside it

    def update_name(self, upload_id: bytes) -> str:
        """Where an update's sealed bytes go."""
        return f"updates/{upload_id.hex()}.blob"

    def control_name(self, upload_id: bytes) -> str:
        """Where the c_i⁺ of an update goes."""
        return f"controls/{upload_id.hex()}.f32"

    def write_file(self, name: str, data: memoryview) -> StoredFile:
        """Store a large file durably, in pieces, and return what names it."""
        sink = self._store.create(f"{self._folder}/{name}", len(data))
        try:
            for start in range(0, len(data), _PIECE_BYTES):
                sink.write_at(start, data[start : start + _PIECE_BYTES])
            sink.commit()
        finally:
            sink.discard()
        return StoredFile(name=name, digest=sha256(data).digest())

    @property
    def files(self) -> Store:
        """The store; names of this federation's files are below `path`."""
        return self._store

    def path(self, name: str) -> str:
        """The full name of one of this federation's files."""
        return f"{self._folder}/{name}"

    def keep_receipt(self, name: str, *, entry: bytes, receipt: bytes) -> None:
        """Keep an entry and its `tlog-proof`, under a name like "00000012-round.published"."""
        self._store.write(self.path(f"receipts/{name}.entry.json"), entry)
        self._store.write(self.path(f"receipts/{name}.tlog-proof"), receipt)

    def keep_grant(self, name: str, grant: bytes) -> None:
        """Keep what this silo has authorised, durably; call it before the grant leaves."""
        self._store.write(self.path(f"grants/{name}.grant"), grant)

    def keep_evidence(self, name: str, files: dict[str, bytes]) -> str:
        """Keep what convicts a log that was rolled back or forked; returns the folder's name in the store."""
        folder = self.path(f"evidence/{name}")
        for file, data in files.items():
            self._store.write(f"{folder}/{file}", data)
        return folder

    def keep_voucher(self, voucher: Voucher) -> None:
        """Keep what vouches for a log key, the first for each key: a fraud proof needs it."""
        name = self._voucher_name(voucher.log_key)
        if not self._store.exists(name):
            self._store.write(name, voucher.encode())

    def voucher(self, key: VerifyingKey) -> Voucher | None:
        """What vouches for a log key; None if it isn't kept, or no longer what was written."""
        try:
            return Voucher.parse(self._store.read(self._voucher_name(key)))
        except (NotFound, MalformedError):
            return None

    def _voucher_name(self, key: VerifyingKey) -> str:
        return self.path(f"log-keys/{key.raw.hex()}.json")

    def receipts(self) -> list[str]:
        """Names of the receipts, in order."""
        prefix, suffix = self.path("receipts/"), ".tlog-proof"
        return [
            name.removeprefix(prefix).removesuffix(suffix) for name in self._store.list(prefix) if name.endswith(suffix)
        ]

    def read_receipt(self, name: str) -> tuple[bytes, bytes]:
        """An entry's bytes and its `tlog-proof`."""
        return (
            self._store.read(self.path(f"receipts/{name}.entry.json")),
            self._store.read(self.path(f"receipts/{name}.tlog-proof")),
        )

    def _replace(self, memory: _Memory) -> None:
        if self._failed:
            raise StateError("the silo's state could not be written before; start again, from what is on disk")
        self._failed = True
        self._store.write(self.path("state.json"), memory.encode())
        self._failed = False
        self._memory = memory
        self._head = None if memory.head is None else Checkpoint.parse(memory.head.encode())

    def _remove_debris(self) -> None:
        memory = self._memory
        named = {memory.control.name} if memory.control else set()
        if memory.pending is not None:
            named.add(memory.pending.blob)
            if memory.pending.control is not None:
                named.add(memory.pending.control.name)
        for folder in ("updates/", "controls/"):
            for name in self._store.list(self.path(folder)):
                if name.removeprefix(self.path("")) not in named:
                    self._store.delete(name)


def _empty(agreement: bytes, silo: str) -> _Memory:
    return _Memory(
        silo=silo,
        agreement=agreement,
        log_keys=(),
        head=None,
        cosigned_at=0,
        control_epoch=0,
        control=None,
        parent=None,
        pending=None,
        last_sealed=None,
    )


def _text(head: Checkpoint) -> str:
    return head.encode().decode()


def _damaged(name: str, how: str) -> StateError:
    return StateError(
        f"{name}: the control variate is {how}; delete the state folder to begin again: the appliance then resets all "
        "controls, which the log will say"
    )


__all__ = ["Attempt", "Bytes", "SealedUpdate", "SiloState", "StateError", "StoredFile"]
