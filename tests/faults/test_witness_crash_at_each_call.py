"""A further witness's state on a modelled disk: stopped at every call, killed or without power, and on a failing disk.

Whatever is left of the disk, no two of its cosignatures contradict each other: the fork is asked for at every step, and
after every start. What it has cosigned it still knows.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest import mock

import pytest
from modelled_disk import Call, Disk, ModelledOs, Outcome, Plan, Stopped

import audit.store
import audit.stored_files
from audit.log import LogWriter
from audit.note import VerifierKey
from audit.store import DirectoryStore, MemoryStore, StoreError
from audit.witnessing.answer import COSIGNED
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import WitnessState, WitnessStateError
from audit.witnessing.witness import Witness
from protocol.keys import SigningKey

ORIGIN = "simulated.strongroom.example/digits"
LOG_KEY, WITNESS_KEY = SigningKey(b"l" * 32), SigningKey(b"w" * 32)
KEY = VerifierKey.of_cosigner("witness.example/w1", WITNESS_KEY.public)
COMMON, SIZES = 2, (2, 5, 9)


def log_of(mark: str) -> LogWriter:
    writer = LogWriter.create(MemoryStore(), ORIGIN, LOG_KEY)
    for number in range(SIZES[-1]):
        writer.append([f"entry {number}{mark if number >= COMMON else ''}".encode()])
    return writer


BRANCHES = {"honest": log_of(""), "fork": log_of(" forked")}


class Story:
    """One witness on one disk, through as many lives as it takes. `signed`: the sizes that left, by branch."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.disk = Disk()
        self.disk.plan = plan
        self.signed: dict[str, set[int]] = {"honest": set(), "fork": set()}

    @contextmanager
    def mounted(self) -> Iterator[None]:
        system = ModelledOs({"disk": self.disk})
        with mock.patch.object(audit.store, "os", system), mock.patch.object(audit.stored_files, "os", system):
            yield

    def begin(self) -> Witness:
        """A process: `init` and `add` where there is nothing yet, as its operator would."""
        store = DirectoryStore("/disk/state")
        store.settle()
        try:
            state = WitnessState.open(store, KEY)
        except WitnessStateError:
            assert self.signed == {"honest": set(), "fork": set()}, "it has forgotten what it cosigned"
            state = WitnessState.create(store, KEY)
        state.add(VerifierKey.of_log(ORIGIN, LOG_KEY.public))
        return Witness(key=WITNESS_KEY, state=state, clock=lambda: 1_800_000_000, event=lambda line: None)

    def live(self, branches: tuple[str, ...]) -> None:
        """Each size of each branch is asked for, from each size that the witness may have."""
        witness = self.begin()
        for size in SIZES:
            for branch in branches:
                for old in sorted({0, *SIZES[: SIZES.index(size) + 1][-2:]}):
                    self.ask(witness, branch, old, size)

    def ask(self, witness: Witness, branch: str, old: int, size: int) -> None:
        log = BRANCHES[branch]
        proof = log.consistency(old, size) if 0 < old < size else ()
        request = AddCheckpoint(old_size=old, proof=proof, checkpoint=log.checkpoint_at(size))
        if witness.add_checkpoint(request.encode()).status == COSIGNED:
            self.signed[branch].add(size)
            beyond = {name for name, sizes in self.signed.items() if max(sizes, default=0) > COMMON}
            assert len(beyond) <= 1, "two histories were cosigned"

    def end(self) -> None:
        """What is asked for last is answered: the witness goes on with the history that it began with."""
        for branches in (("fork", "honest"), ("honest", "fork")):
            self.live(branches)
        assert SIZES[-1] in self.signed["honest"] | self.signed["fork"]


def stop_at(number: int) -> Plan:
    counted = 0

    def plan(_: int, call: Call) -> None:
        nonlocal counted
        counted += call.changes
        if call.changes and counted == number:
            raise Stopped(call.kind)

    return plan


def undisturbed() -> Story:
    story = Story()
    with story.mounted():
        story.live(("honest", "fork"))
    return story


CALLS = undisturbed().disk.calls
CHANGES = sum(call.changes for call in CALLS)


def test_the_undisturbed_one_cosigns_one_history() -> None:
    assert undisturbed().signed == {"honest": set(SIZES), "fork": {COMMON}}
    assert CHANGES > 30


def stop_everywhere(outcome: Outcome, *, first: int, step: int) -> None:
    for number in range(first, CHANGES + 1, step):
        story = Story(stop_at(number))
        with story.mounted():
            with pytest.raises(Stopped):
                story.live(("honest", "fork"))
            story.disk.cut(outcome, number)
            story.end()
            story.disk.cut(Outcome.SYNCED)
            story.end()


@pytest.mark.parametrize("outcome", Outcome)
def test_stopped_at_a_call_it_cosigns_one_history(outcome: Outcome) -> None:
    stop_everywhere(outcome, first=1 + [*Outcome].index(outcome), step=20)


@pytest.mark.slow
@pytest.mark.parametrize("outcome", Outcome)
def test_stopped_at_any_call_it_cosigns_one_history(outcome: Outcome) -> None:
    stop_everywhere(outcome, first=1, step=1)


@pytest.mark.slow
@pytest.mark.parametrize("first", [Outcome.KILLED, Outcome.SYNCED])
def test_killed_and_then_without_power_it_cosigns_one_history(first: Outcome) -> None:
    """The second stop comes while the second life goes through what the first has left."""
    for number in range(1, CHANGES + 1, 3):
        for second in range(1, 30, 4):
            story = Story(stop_at(number))
            with story.mounted():
                with pytest.raises(Stopped):
                    story.live(("honest", "fork"))
                story.disk.cut(first, number)
                story.disk.plan = stop_at(second)
                with suppress(Stopped):
                    story.end()
                story.disk.cut(Outcome.SYNCED)
                story.end()


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        (errno.ENOSPC, {"create", "mkdir", "write", "write-half", "sync-file"}),
        (errno.EIO, {"sync-file"}),
        (errno.EIO, {"sync-folder"}),
        (errno.EROFS, {"create", "mkdir", "rename", "truncate", "write"}),
        (errno.EMFILE, {"open", "create", "dup"}),
    ],
)
def test_a_disk_that_fails_once_costs_a_cosignature_and_no_history(code: int, kinds: set[str]) -> None:
    """The server goes on after an error: what it reads then may be in the kernel's cache alone."""
    total = sum(call.kind in kinds for call in CALLS)
    for number in range(1, total + 1, max(1, total // 4)):
        counted = 0

        def plan(_: int, call: Call, number: int = number) -> OSError | None:
            nonlocal counted
            counted += call.kind in kinds
            failing = call.kind in kinds and counted == number
            return OSError(code, os.strerror(code)) if failing else None

        story = Story(plan)
        with story.mounted():
            for _ in range(2):
                with suppress(StoreError):
                    story.live(("honest", "fork"))
            story.disk.cut(Outcome.SYNCED)
            story.end()
