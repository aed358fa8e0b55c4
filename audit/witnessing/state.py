"""A witness's memory: which logs it knows, by which keys, and the newest checkpoint of each that it cosigned.

    witness.json                                whose memory this is; written once, by `init`
    logs/<SHA-256 of the origin>.json           one log: its keys and its head
    evidence/<SHA-256 of the origin>/<what>/    two notes that contradict each other, signed by the same log

A witness that forgot can be made to cosign a fork. So nothing here is made in passing: a witness without its memory,
or a log without its file, is refused, and never begins at nothing. What is read is what the disk holds at that moment,
so that no write that failed half-way leaves a memory of its own. Called by `witness.py` and by `strongroom witness`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

from audit.merkle import EMPTY_ROOT, TreeHead
from audit.note import Checkpoint, VerifierKey
from audit.signature_types import SignatureType
from audit.store import NotFound, Store
from protocol.errors import MalformedError, ProtocolError
from protocol.record import Count, Note, Record, Text

_OWN = "witness.json"
_LOGS = "logs/"
_MAXIMUM_LOGS = 4096
_MAXIMUM_EVIDENCE = 64
_NOTHING = TreeHead(size=0, root=EMPTY_ROOT)


class WitnessStateError(ProtocolError):
    """A witness's memory is not there, is another witness's, or is damaged. One line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own(Record, kind="witness", limit_bytes=4096):
    key: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known(Record, kind="witness-log", limit_bytes=2**17):
    origin: Text
    keys: tuple[Note, ...]
    head: Note | None
    cosigned_at: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLog:
    """A log: the keys that may sign its checkpoints, the newest one that was cosigned (None at first), and when."""

    origin: str
    keys: tuple[VerifierKey, ...]
    checkpoint: Checkpoint | None
    cosigned_at: int

    @property
    def head(self) -> TreeHead:
        """The newest cosigned head; that of the empty tree before the first."""
        return _NOTHING if self.checkpoint is None else self.checkpoint.head


class WitnessState:
    """The memory of the witness with this key (type 0x04)."""

    def __init__(self, store: Store, key: VerifierKey) -> None:
        """Not called from outside: use `create` or `open`."""
        self.key = key
        self._store = store

    @classmethod
    def create(cls, store: Store, key: VerifierKey) -> "WitnessState":
        """Begin a memory; raises `WitnessStateError` where there is one."""
        if store.exists(_OWN):
            raise WitnessStateError("witness: expected no state yet, found one; a witness begins once")
        store.write(_OWN, _Own(key=str(key)).encode())
        return cls(store, key)

    @classmethod
    def open(cls, store: Store, key: VerifierKey) -> "WitnessState":
        """Take up a memory; raises `WitnessStateError` if it is none, damaged, or another witness's."""
        try:
            own = _Own.parse(store.read(_OWN))
        except NotFound as error:
            raise WitnessStateError(
                "witness: expected its state, found none; a witness that lost it cosigns no more: begin another one, "
                "with a new key (strongroom witness init)"
            ) from error
        except MalformedError as error:
            raise WitnessStateError(f"{_OWN}: damaged: {error}") from error
        if own.key != str(key):
            raise WitnessStateError(f"{_OWN}: expected the state of {key}, found that of {own.key}")
        state = cls(store, key)
        for name in store.list(_LOGS):
            if name.endswith(".json"):
                state._read(name)
        return state

    def logs(self) -> Iterator[KnownLog]:
        """The known logs; raises `WitnessStateError`."""
        for name in self._store.list(_LOGS):
            if name.endswith(".json"):
                yield self._read(name)

    def log(self, origin: str) -> KnownLog | None:
        """One log as the disk has it now, or None if it isn't known; raises `WitnessStateError`."""
        try:
            return self._read(_name(origin))
        except NotFound:
            return None

    def add(self, key: VerifierKey) -> KnownLog:
        """Know a log by its key (type 0x01), or a known log by one more key; durable on return.

        Raises `WitnessStateError` for a key that signs no checkpoints, or one too many.
        """
        if key.type is not SignatureType.ED25519 or not key.name.isprintable():
            raise WitnessStateError(f"witness: expected a log's key (type 0x01, a printable name), found {str(key)!a}")
        known = self.log(key.name)
        if known is None:
            if len(self._store.list(_LOGS)) >= _MAXIMUM_LOGS:
                raise WitnessStateError(f"witness: expected at most {_MAXIMUM_LOGS} logs, found one more")
            known = KnownLog(origin=key.name, keys=(), checkpoint=None, cosigned_at=0)
        if key not in known.keys:
            known = replace(known, keys=(*known.keys, key))
            self._write(known)
        return known

    def advance(self, known: KnownLog, checkpoint: Checkpoint, *, cosigned_at: int) -> None:
        """Replace a log's head; durable on return, and only then may a cosignature be made. Raises `StoreError`."""
        # A crash here leaves the old head or the new one, and no cosignature: the log asks again.
        self._write(replace(known, checkpoint=checkpoint, cosigned_at=cosigned_at))

    def keep_evidence(self, known: KnownLog, checkpoint: Checkpoint, what: str) -> str | None:
        """Keep the head and what contradicts it, both signed by the log; the folder's name, None if it was there.

        So many of a kind only, and none from then on: whoever holds checkpoints of a log can send them without end.
        """
        if known.checkpoint is None:
            return None
        above = f"evidence/{_digest(known.origin)}/{what}"
        folder = f"{above}-{checkpoint.size}-{checkpoint.root.hex()[:16]}"
        kept = self._store.list(above)
        if f"{folder}/theirs.note" in kept or len(kept) >= 2 * _MAXIMUM_EVIDENCE:
            return None
        self._store.write(f"{folder}/ours.note", known.checkpoint.encode())
        # A crash here leaves half of it, and the next request writes it again.
        self._store.write(f"{folder}/theirs.note", checkpoint.encode())
        return folder

    def _read(self, name: str) -> KnownLog:
        data = self._store.read(name)
        try:
            record = _Known.parse(data)
            known = KnownLog(
                origin=record.origin,
                keys=tuple(VerifierKey.parse(text) for text in record.keys),
                checkpoint=None if record.head is None else Checkpoint.parse(record.head.encode()),
                cosigned_at=record.cosigned_at,
            )
        except MalformedError as error:
            raise WitnessStateError(f"{name}: damaged: {error}") from error
        if _name(known.origin) != name or (known.checkpoint is not None and known.checkpoint.origin != known.origin):
            raise WitnessStateError(f"{name}: damaged: the state of another log, {known.origin!r}")
        return known

    def _write(self, known: KnownLog) -> None:
        record = _Known(
            origin=known.origin,
            keys=tuple(str(key) for key in known.keys),
            head=None if known.checkpoint is None else known.checkpoint.encode().decode(),
            cosigned_at=known.cosigned_at,
        )
        self._store.write(_name(known.origin), record.encode())


def _name(origin: str) -> str:
    return f"{_LOGS}{_digest(origin)}.json"


def _digest(origin: str) -> str:
    return sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()
