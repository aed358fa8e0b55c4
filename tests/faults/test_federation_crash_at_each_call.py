"""Enclave and silos are stopped at each call to their file system; what is left may be anything that POSIX allows.

The whole federation runs on modelled disks (`modelled_disk.py`). After each stop a new process starts on what is left;
the log verifies, the federation goes on, and ends with the same bits. Then, long after, the power fails: nothing
that was promised rested on the kernel's cache alone. The table is docs/crashes.md.
"""

from collections import Counter
from random import Random

import pytest
from crashing_federation import APPLIANCE, SILO, CrashingFederation, check_in_between, same, undisturbed
from modelled_disk import Call, Outcome, Plan, Stopped

from audit.report import AuditVerdict
from audit.store import DirectoryStore

PARTS = 16


def calls_of(party: str) -> list[Call]:
    """Every call that a stop makes a difference to, in order."""
    return undisturbed()[0].disks[party].changes


def place(call: Call) -> str:
    """What a call is about: `checkpoints`, `models`, `state.json`, …"""
    known = ("objects", "tile", "checkpoints", "models", "state", "receipts", "updates", "controls", "state.json")
    return next((part for part in call.path.split("/") if part in known), "the store")


def stop_at(number: int) -> Plan:
    """A plan that stops the process at its n-th such call."""
    counted = 0

    def plan(_: int, call: Call) -> None:
        nonlocal counted
        counted += call.changes
        if call.changes and counted == number:
            raise Stopped(f"{call.kind} {call.path}")

    return plan


def stop_at_one(kind: str, where: str, *, late: bool) -> Plan:
    """A plan that stops the process at the first call of a kind on a kind of file, or half-way through them."""
    there = sum((call.kind, place(call)) == (kind, where) for call in calls_of(APPLIANCE) + calls_of(SILO))
    left = 1 + (there // 2 if late else 0)

    def plan(_: int, call: Call) -> None:
        nonlocal left
        left -= (call.kind, place(call)) == (kind, where)
        if left == 0 and (call.kind, place(call)) == (kind, where):
            raise Stopped(f"{call.kind} {call.path}")

    return plan


def one_of_each(party: str) -> list[object]:
    """A stop at each kind of call on each kind of file; every twelfth in the everyday suite.

    Calls are not numbered here: how many there are hangs on the names of objects, and so on fresh keys.
    """
    cases: list[object] = []
    for i, (kind, where) in enumerate(sorted({(call.kind, place(call)) for call in calls_of(party)})):
        outcome, late = [*Outcome][i % 5], i % 2 == 1
        name = f"{kind}-{where}-{'half-way' if late else 'first'}-{outcome.value}".replace(" ", "-")
        marks = [] if i % 12 == 0 else [pytest.mark.slow]
        cases.append(pytest.param(kind, where, late, outcome, id=name, marks=marks))
    return cases


def check(told: CrashingFederation) -> None:
    """The end of a story in which somebody was stopped."""
    assert same(told.results(), undisturbed()[1])
    assert told.federation.kinds().count("round.published") == 2
    assert told.audit().verdict is AuditVerdict.PASS
    for report in told.audits:
        check_in_between(report)
    # Much later: the machine's power, and every silo's.
    for disk in told.disks.values():
        disk.cut(Outcome.SYNCED)
    assert told.audit().verdict is AuditVerdict.PASS
    if told.outcome is not Outcome.KILLED:
        return  # Whatever the life after the stop has built upon was durable when it began.
    told.start_over()
    told.tell()
    assert same(told.results(), undisturbed()[1])
    assert [silo.errors for silo in told.federation.silos.values()] == [[], [], []]


def tell(party: str, plan: Plan, outcome: Outcome, seed: int = 0, then: Plan | None = None) -> None:
    """A story in which a party is stopped, maybe twice."""
    told = CrashingFederation(party=party, plan=plan, outcome=outcome, seed=seed, then=then)
    with told.mounted():
        told.tell()
        check(told)


@pytest.mark.parametrize(("kind", "where", "late", "outcome"), one_of_each(APPLIANCE))
def test_an_enclave_that_stops_at_a_call_loses_nothing(kind: str, where: str, late: bool, outcome: Outcome) -> None:
    tell(APPLIANCE, stop_at_one(kind, where, late=late), outcome)


@pytest.mark.parametrize(("kind", "where", "late", "outcome"), one_of_each(SILO))
def test_a_silo_that_stops_at_a_call_loses_nothing(kind: str, where: str, late: bool, outcome: Outcome) -> None:
    tell(SILO, stop_at_one(kind, where, late=late), outcome)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_an_enclave_that_stops_at_any_call_loses_nothing(part: int) -> None:
    for stop in range(1 + part, len(calls_of(APPLIANCE)) + 1, PARTS):
        tell(APPLIANCE, stop_at(stop), [*Outcome][stop // PARTS % 5], stop)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_silo_that_stops_at_any_call_loses_nothing(part: int) -> None:
    for stop in range(1 + part, len(calls_of(SILO)) + 1, PARTS):
        tell(SILO, stop_at(stop), [*Outcome][stop // PARTS % 5], stop)


def test_every_kind_of_call_is_stopped_at() -> None:
    """Nothing here stops at less than it says: the undisturbed story has all of them, in numbers."""
    kinds = Counter(call.kind for call in calls_of(APPLIANCE))
    assert set(kinds) == {
        "create", "chmod", "truncate", "write", "write-half", "sync-file", "rename", "sync-folder", "mkdir", "unlink"
    }  # fmt: skip
    assert min(kinds.values()) >= 4
    places = {place(call) for call in calls_of(APPLIANCE)}
    assert {"objects", "tile", "checkpoints", "models", "state", "the store"} <= places
    assert {"state.json", "updates", "controls", "receipts"} <= {place(call) for call in calls_of(SILO)}


def rotate(stop: int, outcome: Outcome, seed: int) -> bool:
    """A start under a new log key that is stopped; returns whether it was."""
    told = CrashingFederation(plan=stop_at(stop), outcome=outcome, seed=seed, rotates=True)
    with told.mounted():
        told.tell()
        assert told.federation.kinds().count("key.rotated") in ((0, 1) if told.stops else (1,))
        check(told)
    return bool(told.stops)


@pytest.mark.parametrize(("stop", "outcome"), [(23, Outcome.SYNCED), (61, Outcome.TORN)])
def test_a_rotation_of_the_log_key_that_stops_at_a_call_loses_nothing(stop: int, outcome: Outcome) -> None:
    assert rotate(stop, outcome, stop)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_rotation_of_the_log_key_that_stops_at_any_call_loses_nothing(part: int) -> None:
    stop = 1 + part
    while rotate(stop, [*Outcome][stop // (3 * PARTS) % 5], stop):
        stop += 3 * PARTS
        assert stop < 1000


@pytest.mark.parametrize(("party", "where"), [(APPLIANCE, "objects"), (SILO, "state.json")])
def test_what_a_kill_left_in_the_cache_alone_is_made_durable_by_the_next_start(party: str, where: str) -> None:
    """A kill between a rename and the folder's sync, and a power cut after the next life has built on that name."""
    calls = calls_of(party)
    renamed = next(n for n, call in enumerate(calls, 1) if (call.kind, place(call)) == ("rename", where))
    assert calls[renamed].kind == "sync-folder"
    tell(party, stop_at(renamed + 1), Outcome.KILLED)


@pytest.mark.slow
@pytest.mark.parametrize("party", [APPLIANCE, SILO])
def test_a_kill_and_then_a_power_cut_in_the_next_life_lose_nothing(party: str) -> None:
    """The second stop is soon after the first, while the second life goes through what the first has left."""
    rng = Random(7)
    for first in rng.sample(range(1, len(calls_of(party))), 40):
        tell(party, stop_at(first), Outcome.KILLED, seed=first, then=stop_at(rng.randint(1, 60)))


def test_a_stores_own_folder_outlives_a_power_cut() -> None:
    told = CrashingFederation()
    with told.mounted():
        DirectoryStore(f"/{APPLIANCE}/data/deep/store").write("a", b"1")
        told.disks[APPLIANCE].cut(Outcome.SYNCED)
        assert DirectoryStore(f"/{APPLIANCE}/data/deep/store").read("a") == b"1"


@pytest.mark.parametrize("outcome", [Outcome.SYNCED, Outcome.TORN])
def test_without_syncs_the_model_loses_things(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model can fail: a store that never syncs does not survive a power cut."""
    told = CrashingFederation(outcome=outcome)
    monkeypatch.setattr(told.os, "fsync", lambda descriptor: None)
    with told.mounted():
        told.tell()
        told.disks[APPLIANCE].cut(outcome, seed=1)
        assert told.audit().verdict is not AuditVerdict.PASS
