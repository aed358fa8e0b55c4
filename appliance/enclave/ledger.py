"""The enclave's pen: every entry passes the audit's own transition table, then becomes durable, then counts.

Called under the enclave's lock. If writing fails half-way, memory is ahead of the disk: the process must end
(`LedgerFailure` is fatal) and the next boot starts from what is durable.
"""

from collections.abc import Callable

from audit.entries import Entry, parse_entry
from audit.log import LogStoppedError, LogWriter
from audit.note import Checkpoint
from audit.replay import History
from audit.store import StoreError
from protocol.keys import SigningKey
from protocol.session import Consistency, LoggedEntry


class LedgerFailure(Exception):
    """The store refused a write. What is durable is consistent; this process no longer is."""


class Ledger:
    """The log, and the history that it amounts to."""

    def __init__(self, *, log: LogWriter, history: History, clock: Callable[[], int]) -> None:
        self._log = log
        self.history = history
        self._clock = clock
        self._newest_time = 0
        self._staged: list[bytes] = []

    @classmethod
    def replay(cls, *, log: LogWriter, history: History, clock: Callable[[], int]) -> "Ledger":
        """Take up a log that exists: every entry through the transition table again."""
        ledger = cls(log=log, history=history, clock=clock)
        for data in log.entries():
            entry = parse_entry(data)
            history.apply(entry)
            ledger._note_time(entry)
        return ledger

    @property
    def size(self) -> int:
        return self._log.size

    @property
    def root(self) -> bytes:
        """The root hash (32 bytes) at `size`."""
        return self._log.root()

    @property
    def checkpoint_text(self) -> str:
        """The newest checkpoint as a signed note."""
        return self._log.checkpoint.decode()

    def now(self) -> int:
        """Unix seconds: the untrusted clock, but never earlier than anything that was logged or cosigned."""
        return max(self._clock(), self._newest_time)

    def saw_time(self, time: int) -> None:
        """A cosignature's time, which the clock must not run behind."""
        self._newest_time = max(self._newest_time, time)

    def stage(self, entry: Entry) -> None:
        """Take an entry into the history; it is durable, and visible to anybody, only after `flush`.

        Raises `DivergenceError` if it doesn't follow, which is a bug here.
        """
        self.history.apply(entry)
        self._note_time(entry)
        self._staged.append(entry.encode())

    def flush(self, *, successor: SigningKey | None = None) -> None:
        """Log what is staged as one batch under one new checkpoint; raises `LedgerFailure` if the store fails.

        `successor`: the log's key from this batch on, which its first entry names.
        """
        try:
            self._log.append(self._staged, successor=successor)
        except (StoreError, LogStoppedError) as error:
            raise LedgerFailure(f"the log could not be written: {error}") from error
        self._staged = []

    def record(self, *entries: Entry) -> None:
        """Stage these entries and flush; durable when this returns."""
        for entry in entries:
            self.stage(entry)
        self.flush()

    def put_object(self, data: bytes) -> bytes:
        """Store a content-addressed object durably, before the entry that names it; returns its digest."""
        try:
            return self._log.put_object(data)
        except StoreError as error:
            raise LedgerFailure(f"an object could not be written: {error}") from error

    def receipt(self, index: int) -> tuple[bytes, str]:
        """An entry's bytes and its `tlog-proof` under the newest checkpoint."""
        return self._log.entry(index), self._log.receipt(index).encode().decode()

    def get_object(self, digest: bytes) -> bytes:
        """A content-addressed object."""
        return self._log.get_object(digest)

    def first_checkpoint_above(self, index: int) -> Checkpoint:
        """The first checkpoint that covers an entry."""
        return self._log.first_checkpoint_above(index)

    def logged(self, index: int, size: int) -> LoggedEntry:
        """An entry with its inclusion proof in the tree of `size`."""
        return LoggedEntry(index=index, entry=self._log.entry(index), hashes=self._log.inclusion(index, size))

    def consistency(self, known: int, size: int) -> Consistency:
        """From the tree of `known` entries to that of `size`; empty from 0."""
        hashes = self._log.consistency(known, size) if 0 < known < size else ()
        return Consistency(size=known, hashes=hashes)

    def add_cosignatures(self, size: int, lines: list[str]) -> None:
        """Keep a checkpoint's cosignatures, durably; raises `LedgerFailure`."""
        try:
            self._log.add_cosignatures(size, lines)
        except (StoreError, LogStoppedError) as error:
            raise LedgerFailure(f"cosignatures could not be written: {error}") from error

    def _note_time(self, entry: Entry) -> None:
        self._newest_time = max(self._newest_time, entry.time)
