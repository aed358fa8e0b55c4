"""Logs that lie and are signed for: every byte is what the log's own key signed, and only the meaning is wrong.

Each case names the entry at which an auditor must stop, the line of the checklist that catches it, and the words.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from audit_forgery import AGREEMENT, HONEST, assert_diverges, at, audit, fields, inserted, swapped, without
from audit_history import (
    QUORUM,
    Batch,
    Boot,
    Recorder,
    Told,
    identity,
    token,
    told,
)

from audit.entries import (
    ApplianceStarted,
    Entry,
    LogClosed,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    UpdateAccepted,
    UpdateRefused,
)
from audit.report import AuditVerdict, CheckState, Line
from protocol import canonical

ENTRIES, RELEASES = Line.ENTRIES, Line.RELEASES


@dataclass(frozen=True)
class Case:
    """A lie, the entry that gives it away, the line that catches it and the words that say so."""

    tell: Callable[[], Told]
    index: int
    line: Line
    words: str


ACCEPTED, COMMITTED, PUBLISHED = at(UpdateAccepted), at(RoundCommitted), at(RoundPublished)
OPENED, CLOSED = at(RoundOpened), at(LogClosed)
FIRST_OF_ROUND_1 = at(UpdateAccepted, 1)


def cohort(change: Callable[[list], list], kind: type[Entry] = RoundCommitted) -> Told:  # type: ignore[type-arg]
    entry = HONEST.entries[at(kind)]
    return fields(kind, cohort=tuple(change(list(entry.cohort))))  # type: ignore[union-attr]


SEMANTICS = {
    "entries swapped": Case(lambda: swapped(COMMITTED, COMMITTED - 1), COMMITTED - 1, ENTRIES, "cohort"),
    "an admission before the boot": Case(lambda: swapped(1, 2), 1, ENTRIES, "may not follow in phase created"),
    "an update before its admission": Case(
        lambda: swapped(at(SiloAdmitted, 0), ACCEPTED), at(SiloAdmitted, 0), ENTRIES, "may not follow in phase idle"
    ),
    "an update of a silo that was never admitted": Case(
        lambda: without(at(SiloAdmitted, 0)), ACCEPTED - 1, ENTRIES, "silo-0 was not admitted in this boot"
    ),
    "an update of a silo that was refused": Case(
        lambda: without(at(SiloAdmitted, 3)).with_fields(FIRST_OF_ROUND_1 - 1, silo="silo-3"),
        FIRST_OF_ROUND_1 - 1,
        ENTRIES,
        "silo-3 was not admitted in this boot",
    ),
    "an update of a silo that the former boot admitted": Case(
        lambda: fields(UpdateAccepted, -1, silo="silo-3"),
        at(UpdateAccepted, -1),
        ENTRIES,
        "silo-3 was not admitted in this boot",
    ),
    "an update after its silo's admission had expired": Case(
        lambda: fields(UpdateAccepted, -1, time=HONEST.entries[-4].time + 4000),  # type: ignore[union-attr]
        at(UpdateAccepted, -1),
        ENTRIES,
        "admission had expired",
    ),
    "an update of a silo that the agreement doesn't name": Case(
        lambda: fields(UpdateAccepted, 1, silo="silo-9"), FIRST_OF_ROUND_1, ENTRIES, "names no silo 'silo-9'"
    ),
    "two updates of one silo": Case(
        lambda: fields(UpdateAccepted, 2, silo="silo-2"),
        at(UpdateAccepted, 2),
        ENTRIES,
        "has a complete upload in this attempt already",
    ),
    "an update used in an earlier attempt": Case(
        lambda: fields(UpdateAccepted, 2, upload_id=HONEST.entries[ACCEPTED].upload_id),  # type: ignore[union-attr]
        at(UpdateAccepted, 2),
        ENTRIES,
        "upload id",
    ),
    "an update of another round": Case(
        lambda: fields(UpdateAccepted, 1, round=2), FIRST_OF_ROUND_1, ENTRIES, "round and attempt"
    ),
    "an update of another lineage": Case(
        lambda: fields(UpdateAccepted, -1, parent=token("another", 16)), at(UpdateAccepted, -1), ENTRIES, "parent"
    ),
    "an update accepted but not committed": Case(
        lambda: cohort(lambda members: members[1:]), COMMITTED, ENTRIES, "every accepted update, once"
    ),
    "an update committed but not accepted": Case(
        lambda: without(at(UpdateAccepted, 2)), COMMITTED - 1, ENTRIES, "every accepted update, once"
    ),
    "an update committed twice": Case(
        lambda: cohort(lambda members: [*members, members[0]]), COMMITTED, ENTRIES, "every accepted update, once"
    ),
    "a cohort in another order": Case(
        lambda: cohort(lambda members: members[::-1]), COMMITTED, ENTRIES, "every accepted update, once"
    ),
    "a wrong weight": Case(
        lambda: cohort(lambda members: [replace(members[0], weight=2.0), *members[1:]]),
        COMMITTED,
        ENTRIES,
        "every accepted update, once",
    ),
    "another update's digest": Case(
        lambda: cohort(lambda members: [replace(members[0], update=token("another")), *members[1:]]),
        COMMITTED,
        ENTRIES,
        "every accepted update, once",
    ),
    "a privacy charge that nothing made": Case(
        lambda: fields(RoundCommitted, privacy_charge=1.5), COMMITTED, ENTRIES, "privacy charge"
    ),
    "a published cohort that wasn't committed": Case(
        lambda: cohort(lambda members: members[1:], RoundPublished), PUBLISHED, ENTRIES, "cohort"
    ),
    "a model that isn't the last round's child": Case(
        lambda: fields(RoundPublished, 1, model_in=AGREEMENT.model.initial), at(RoundPublished, 1), ENTRIES, "model in"
    ),
    "a control variate out of nowhere": Case(
        lambda: fields(RoundPublished, 0, control_in=token("another")), PUBLISHED, ENTRIES, "control variate in"
    ),
    "no control variate": Case(
        lambda: fields(RoundPublished, 0, control_out=None), PUBLISHED, ENTRIES, "control variate out"
    ),
    "an attempt on another model": Case(
        lambda: fields(RoundOpened, 2, model=AGREEMENT.model.initial), at(RoundOpened, 2), ENTRIES, "model"
    ),
    "an attempt of more local steps": Case(
        lambda: fields(RoundOpened, local_steps=11), OPENED, ENTRIES, "local steps: expected 10, found 11"
    ),
    "an attempt at another learning rate": Case(
        lambda: fields(RoundOpened, learning_rate=0.2), OPENED, ENTRIES, "learning rate"
    ),
    "an attempt with another deadline": Case(
        lambda: fields(RoundOpened, deadline_seconds=1), OPENED, ENTRIES, "deadline in seconds"
    ),
    "an attempt by another strategy": Case(lambda: fields(RoundOpened, strategy="fedavg"), OPENED, ENTRIES, "strategy"),
    "an attempt repeated": Case(
        lambda: fields(RoundOpened, 1, attempt=1), at(RoundOpened, 1), ENTRIES, "round and attempt"
    ),
    "an attempt left out": Case(
        lambda: fields(RoundOpened, 1, attempt=3), at(RoundOpened, 1), ENTRIES, "round and attempt"
    ),
    "an attempt opened beside another": Case(
        lambda: without(at(RoundAbandoned)), at(RoundAbandoned), ENTRIES, "may not follow in phase collecting"
    ),
    "a round published twice": Case(
        lambda: inserted(PUBLISHED + 2, HONEST.entries[PUBLISHED]),  # type: ignore[arg-type]
        PUBLISHED + 2,
        ENTRIES,
        "may not follow in phase collecting",
    ),
    "a round published without a commit": Case(
        lambda: without(COMMITTED), COMMITTED, ENTRIES, "may not follow in phase collecting"
    ),
    "an attempt abandoned although it had its cohort": Case(
        lambda: HONEST.with_entries(
            lambda entries: entries.__setitem__(
                COMMITTED,
                replace(
                    HONEST.entries[at(RoundAbandoned)],  # type: ignore[type-var]
                    time=HONEST.entries[COMMITTED].time,  # type: ignore[union-attr]
                    attempt=2,
                ),
            )
        ),
        COMMITTED,
        ENTRIES,
        "the cohort reached the agreement's minimum",
    ),
    "an attempt abandoned for another reason": Case(
        lambda: fields(RoundAbandoned, reason="restart"), at(RoundAbandoned), ENTRIES, "reason"
    ),
    "an attempt abandoned at a silo's expense": Case(
        lambda: fields(RoundAbandoned, silo="silo-2"), at(RoundAbandoned), ENTRIES, "silo: expected None"
    ),
    "an admission until doomsday": Case(
        lambda: fields(SiloAdmitted, expires=2**40), at(SiloAdmitted), ENTRIES, "expires"
    ),
    "an admission to another owner": Case(
        lambda: fields(SiloAdmitted, owner="cantone"), at(SiloAdmitted), ENTRIES, "owner"
    ),
    "an admission of another boot": Case(
        lambda: fields(SiloAdmitted, -1, boot_id=Boot("A").boot_id), at(SiloAdmitted, -1), ENTRIES, "boot id"
    ),
    "a boot id used again": Case(
        lambda: fields(ApplianceStarted, 1, boot_id=Boot("A").boot_id), at(ApplianceStarted, 1), ENTRIES, "boot id"
    ),
    "a log key changed at a boot": Case(
        lambda: fields(ApplianceStarted, 1, keys=replace(Boot("B").keys, log=identity("another log").public.raw)),
        at(ApplianceStarted, 1),
        ENTRIES,
        "log key",
    ),
    "a log key under which anybody could sign": Case(
        lambda: fields(ApplianceStarted, 1, keys=replace(Boot("B").keys, log=bytes(32))),
        at(ApplianceStarted, 1),
        ENTRIES,
        "expected an Ed25519 key of large order",
    ),
    "closed a round early": Case(
        lambda: without(at(RoundPublished, 1)), at(RoundPublished, 1), ENTRIES, "may not follow in phase committed"
    ),
    "closed with another model": Case(lambda: fields(LogClosed, model=token("another")), CLOSED, ENTRIES, "model"),
    "time that runs backwards": Case(
        lambda: fields(SiloAdmitted, 1, time=1, expires=3601), at(SiloAdmitted, 1), ENTRIES, "time: expected at least"
    ),
    "an entry that is no JSON": Case(
        lambda: HONEST.with_entries(lambda entries: entries.__setitem__(OPENED, b"{}\n")), OPENED, ENTRIES, "JSON"
    ),
    "an entry in another spelling": Case(
        lambda: HONEST.with_entries(
            lambda entries: entries.__setitem__(OPENED, HONEST.entries[OPENED].encode() + b" ")  # type: ignore
        ),
        OPENED,
        ENTRIES,
        "canonical",
    ),
    "a second genesis": Case(
        lambda: inserted(3, HONEST.entries[0]),  # type: ignore[arg-type]
        3,
        ENTRIES,
        "may not follow in phase idle",
    ),
}


def test_the_honest_history_passes() -> None:
    report = audit(HONEST)
    assert report.verdict is AuditVerdict.PASS
    assert report.line == "PASS (simulated: protects nothing)"


@pytest.mark.parametrize("name", SEMANTICS)
def test_an_entry_that_does_not_follow(name: str) -> None:
    case = SEMANTICS[name]
    assert_diverges(case.tell(), case.index, case.line, case.words)


# A cohort below the minimum


def test_a_cohort_of_one_owner() -> None:
    """silo-0 and silo-1 have one owner, and minimum_cohort counts owners."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    for silo in ("silo-0", "silo-1", "silo-2"):
        recorder.batch(recorder.admitted(silo))
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-0"))
    recorder.batch(recorder.accepted("silo-1"))
    lie = recorder.committed()
    history = replace(told(recorder), batches=(*recorder.batches, Batch((lie,))))
    assert_diverges(history, len(history.entries) - 1, ENTRIES, "below the agreement's minimum")


# Releases


def test_a_release_without_any_cosignature() -> None:
    history = HONEST.with_cosigners(OPENED, ())
    assert_diverges(history, ACCEPTED, RELEASES, "found none with any")


def test_a_release_with_one_owner_too_few() -> None:
    history = HONEST.with_cosigners(at(RoundOpened, 2), ("silo-2", "silo-4"))
    assert_diverges(history, at(UpdateAccepted, 4), RELEASES, "by baltic-bank, delta-telecom")


def test_two_silos_of_one_owner_have_one_vote() -> None:
    history = HONEST.with_cosigners(OPENED, ("silo-0", "silo-1", "silo-2"))
    assert_diverges(history, ACCEPTED, RELEASES, "by alpenklinik, baltic-bank")


def test_a_refused_update_was_released_to_as_well() -> None:
    history = without(ACCEPTED).with_cosigners(OPENED, ())
    assert isinstance(history.entries[ACCEPTED], UpdateRefused)
    assert_diverges(history, ACCEPTED, RELEASES, "released without a quorum")


def test_a_quorum_from_before_the_restart_does_not_do() -> None:
    """What was cosigned before the attempt was opened says nothing of it, nor of this boot."""
    last = at(RoundOpened, -1)
    history = HONEST.with_cosigners(last, ()).with_cosigners(last - 1, QUORUM)
    assert_diverges(history, last + 1, RELEASES, "found none with any")


def test_a_quorum_that_came_after_the_first_update_does_not_do() -> None:
    history = HONEST.with_cosigners(OPENED, ()).with_cosigners(ACCEPTED, QUORUM)
    assert_diverges(history, ACCEPTED, RELEASES, f"expected a checkpoint of {OPENED + 1} to {ACCEPTED} entries")


def test_a_quorum_over_a_later_entry_but_before_the_first_update_does() -> None:
    """An admission while the silos vote: the newer checkpoint covers the attempt just as well."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-0"))
    recorder.batch(recorder.opened())
    recorder.batch(recorder.admitted("silo-2"), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-0"))
    assert audit(told(recorder)).verdict is AuditVerdict.PASS


def test_what_is_not_released_yet_is_no_fault_and_is_said() -> None:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-0"))
    recorder.batch(recorder.opened())
    report = audit(told(recorder))
    assert report.verdict is AuditVerdict.PASS
    assert any("is not released yet" in line for line in report.information)
    closed = audit(HONEST.with_cosigners(CLOSED, ("silo-0",)))
    assert closed.verdict is AuditVerdict.PASS
    assert any("the final model is not released yet" in line for line in closed.information)


# What this reader doesn't know


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "key.borrowed", "version": 1, "time": 1},
        {"kind": "round.opened", "version": 2},
        {"kind": "\u202e", "version": 1},
    ],
)
def test_an_entry_of_an_unknown_kind_is_incomplete(entry: dict[str, str | int]) -> None:
    data = canonical.encode(entry)
    report = audit(HONEST.with_entries(lambda entries: entries.__setitem__(OPENED, data)))
    assert report.verdict is AuditVerdict.INCOMPLETE
    assert [finding.entry for finding in report.missing] == [OPENED]
    assert "unknown kind" in report.missing[0].problem
    assert str(report.missing[0]).isprintable()
    states = {check.line: check.state for check in report.checks}
    assert states[Line.FILES] is CheckState.PASSED
    assert states[Line.ENTRIES] is CheckState.INCOMPLETE
    assert states[Line.RELEASES] is CheckState.NOT_REACHED


def test_a_genesis_of_an_unknown_version_is_incomplete() -> None:
    data = canonical.encode({"kind": "log.genesis", "version": 2})
    report = audit(HONEST.with_entries(lambda entries: entries.__setitem__(0, data)))
    assert report.verdict is AuditVerdict.INCOMPLETE
    assert report.newest is None


def test_what_follows_a_lie_is_not_said_to_be_checked() -> None:
    report = audit(fields(RoundOpened, local_steps=11))
    states = {check.line: check.state for check in report.checks}
    assert states[Line.ENTRIES] is CheckState.FAILED
    assert states[Line.EVIDENCE] is CheckState.NOT_REACHED
    assert report.counts.entries == OPENED
