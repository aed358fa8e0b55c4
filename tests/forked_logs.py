"""Forks of the honest history of `audit_history`, under the log's own key: for the tests of fraud proofs."""

from dataclasses import replace

import audit_history
import pytest
from audit_forgery import AGREEMENT, HONEST
from audit_history import LOG_KEY, Batch, Told, honest

from audit.accounts import Account
from audit.agreed import log_key_of
from audit.entries import Entry
from audit.log import LogReader
from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.store import MemoryStore
from protocol.keys import SigningKey

KEY = log_key_of(AGREEMENT, LOG_KEY.public)
OTHER_KEY = SigningKey(audit_history.token("another log"))
SIZE = 34


def forked(index: int, history: Told = HONEST) -> Told:
    """The same history up to an index, and from there on other entries (a second later)."""

    def change(entries: list[Entry | bytes]) -> None:
        for i in range(index, len(entries)):
            entries[i] = replace(entries[i], time=entries[i].time + 1)  # type: ignore

    return history.with_entries(change)


def cosigned_by(silos: tuple[str, ...], history: Told = HONEST) -> Told:
    """Every checkpoint, by these silos and nobody else."""
    return replace(history, batches=tuple(Batch(batch.entries, silos) for batch in history.batches))


def uncosigned(history: Told = HONEST) -> Told:
    """Nobody has cosigned anything."""
    return cosigned_by((), history)


def account(history: Told | MemoryStore, name: str = "store") -> Account:
    store = history.store() if isinstance(history, Told) else history
    return Account.of_log(name, LogFiles(store))


def note_account(history: Told, size: int, name: str = "note") -> Account:
    return Account.of_note(name, note(history, size))


def note(history: Told, size: int) -> bytes:
    return LogReader(history.store()).checkpoint_at(size).encode()


def receipt_account(history: Told, index: int, size: int, name: str = "receipt") -> Account:
    reader = LogReader(history.store())
    return Account.of_receipts(name, ((reader.receipt(index, size), reader.entry(index)),))


def begun_again(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The same story under another log key, with evidence as good: a second genesis. The key stays the other one."""
    monkeypatch.setattr(audit_history, "LOG_KEY", OTHER_KEY)
    return honest(AGREEMENT)


def parsed(text: str) -> Checkpoint:
    return Checkpoint.parse(text.encode())
