"""More lies that the log's own key signed, and what an honest log leaves open where it ends.

With those of `test_audit_forgeries` these are the semantic faults that an auditor tries: updates before admission,
after expiry, after a silo was barred, used twice, received and forgotten; another round's model; keys and attempts of
another boot; a privacy charge that was taken back; a result without a commitment.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from audit_forgery import AGREEMENT, HONEST, assert_diverges, at, audit, fields
from audit_history import QUORUM, Batch, Boot, Recorder, Told, agreement_of, identity, sealing, told

from audit.entries import (
    ApplianceStarted,
    ControlReset,
    Entry,
    LogClosed,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    UpdateAccepted,
)
from audit.phases import CHANGED_AFTER_ADMISSION
from audit.report import AuditVerdict, CheckState, Line
from protocol.enrolment import SiloKeys

ENTRIES, EVIDENCE = Line.ENTRIES, Line.EVIDENCE
SILOS = ("silo-0", "silo-2", "silo-3")


def admitted(*silos: str) -> Recorder:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    for silo in silos:
        recorder.batch(recorder.admitted(silo))
    return recorder


def collecting(*updates: str) -> Recorder:
    """The first attempt has these updates."""
    recorder = admitted(*SILOS)
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    for silo in updates:
        recorder.batch(recorder.accepted(silo))
    return recorder


def with_lie(recorder: Recorder, *lies: Entry) -> Told:
    """What was recorded, and then entries that do not follow."""
    return replace(told(recorder), batches=(*recorder.batches, *(Batch((lie,)) for lie in lies)))


@dataclass(frozen=True)
class Case:
    """A lie, told after an honest beginning, and the words that name it."""

    tell: Callable[[], Told]
    words: str


def after_a_bar() -> Told:
    recorder = collecting(*SILOS)
    recorder.batch(recorder.committed())
    recorder.batch(replace(recorder.abandoned(CHANGED_AFTER_ADMISSION), silo="silo-2"))
    recorder.batch(recorder.admitted("silo-1"))
    recorder.batch(recorder.admitted("silo-4"))
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    return with_lie(recorder, recorder.accepted("silo-2"))


def in_another_boot() -> Told:
    """The attempt is the first boot's, and the second goes on with it."""
    recorder = collecting("silo-0")
    recorder.boot = Boot("B")
    recorder.batch(recorder.started())
    return with_lie(recorder, recorder.accepted("silo-2"))


def forgotten_by_a_restart() -> Told:
    """A boot that goes on as if no attempt had been open."""
    recorder = collecting("silo-0", "silo-2")
    recorder.boot = Boot("B")
    recorder.batch(recorder.started())
    return with_lie(recorder, recorder.admitted("silo-0"))


def reset_that_nobody_needs() -> Told:
    recorder = admitted(*SILOS)
    return with_lie(recorder, ControlReset(time=recorder.now(), epoch=1, silo="silo-0"))


def reset_that_was_left_out() -> Told:
    recorder = collecting("silo-0", "silo-2")
    recorder.batch(recorder.update_refused("silo-3", "wrong-parent"))
    recorder.batch(recorder.committed())
    recorder.batch(recorder.published())
    return with_lie(recorder, recorder.opened())


def bar_of_a_silo_that_took_no_part() -> Told:
    recorder = collecting("silo-0", "silo-2")
    recorder.batch(recorder.committed())
    return with_lie(recorder, replace(recorder.abandoned(CHANGED_AFTER_ADMISSION), silo="silo-3"))


def committed_attempt_given_up_for_nothing() -> Told:
    recorder = collecting("silo-0", "silo-2")
    recorder.batch(recorder.committed())
    return with_lie(recorder, recorder.abandoned("below-minimum-cohort"))


LIES = {
    "an update after its silo was barred": Case(after_a_bar, "silo-2 is barred"),
    "an update in a boot that did not open the attempt": Case(in_another_boot, "may not follow in phase interrupted"),
    "an interrupted attempt that nobody ends": Case(forgotten_by_a_restart, "may not follow in phase interrupted"),
    "a reset that no silo is due": Case(reset_that_nobody_needs, "no silo's lost control variate is on record"),
    "an attempt before the reset that is due": Case(reset_that_was_left_out, "expected the control.reset that silo-3"),
    "a silo barred that took no part": Case(bar_of_a_silo_that_took_no_part, "names no member of the committed cohort"),
    "a committed attempt given up for nothing": Case(
        committed_attempt_given_up_for_nothing, "below-minimum-cohort ends no committed attempt"
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_after_an_honest_beginning(name: str) -> None:
    history = LIES[name].tell()
    assert_diverges(history, len(history.entries) - 1, ENTRIES, LIES[name].words)


@pytest.mark.parametrize("name", LIES)
def test_and_the_beginning_is_honest(name: str) -> None:
    history = LIES[name].tell()
    assert audit(replace(history, batches=history.batches[:-1])).verdict is AuditVerdict.PASS


# Used twice, in other clothes

FIRST = HONEST.entries[at(UpdateAccepted)]


def test_an_update_that_was_accepted_in_an_earlier_attempt_under_a_new_upload_id() -> None:
    index = at(UpdateAccepted, 2)
    assert_diverges(fields(UpdateAccepted, 2, update=FIRST.update), index, ENTRIES, "update: expected a new one")  # type: ignore[union-attr]


def test_an_update_of_another_silo_used_once_more() -> None:
    index = at(UpdateAccepted, 3)
    other = HONEST.entries[at(UpdateAccepted, 2)]
    assert_diverges(fields(UpdateAccepted, 3, update=other.update), index, ENTRIES, "update: expected a new one")  # type: ignore[union-attr]


# Keys that ought to have died with their boot


@pytest.mark.parametrize("role", ["signing", "sealing", "ca"])
def test_a_boot_with_a_key_of_the_one_before(role: str) -> None:
    keys = replace(Boot("B").keys, **{role: getattr(Boot("A").keys, role)})
    index = at(ApplianceStarted, 1)
    assert_diverges(HONEST.with_fields(index, keys=keys), index, ENTRIES, f"{role} key: expected a new one")


def test_a_boot_that_signs_with_the_log_key() -> None:
    keys = replace(Boot("B").keys, signing=Boot("B").keys.log)
    index = at(ApplianceStarted, 1)
    assert_diverges(HONEST.with_fields(index, keys=keys), index, ENTRIES, "found the log key")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (sealing("round 1 1"), "round key: expected a new one"),
        (Boot("A").keys.sealing, "round key: expected a new one"),
        (b"a key", "round key: expected 1216 bytes, found 5"),
        (b"", "round key: expected 1216 bytes, found 0"),
    ],
)
def test_an_attempt_whose_key_is_not_its_own(key: bytes, words: str) -> None:
    assert_diverges(fields(RoundOpened, 1, round_key=key), at(RoundOpened, 1), ENTRIES, words)


def test_an_admission_on_keys_that_nobody_can_use() -> None:
    """Refused by an honest enclave (malformed): no credential can be issued for it, no model sealed to it."""
    recorder, index = Recorder(AGREEMENT), at(SiloAdmitted, 3)
    keys = SiloKeys(identity=identity("silo-3").public.raw, sealing=sealing("x"), credential=b"x")
    digest = recorder.request("silo-3", "x", keys=keys)
    history = HONEST.with_fields(index, recorder.objects[digest], request=digest)
    assert_diverges(history, index, EVIDENCE, "expected keys that can be used")


# The privacy budget: no mechanism charges anything yet, so that any charge, and any that is taken back, is a lie


@pytest.mark.parametrize("charge", [0.5, -0.5, 1e-300])
def test_a_privacy_charge_in_the_second_round(charge: float) -> None:
    history = fields(RoundCommitted, 1, privacy_charge=charge)
    assert_diverges(history, at(RoundCommitted, 1), ENTRIES, "privacy charge: expected 0.0")


# A cohort that was fixed only when its result was known


def test_a_result_without_a_checkpoint_over_its_commitment_is_incomplete() -> None:
    """A checkpoint that somebody deleted looks the same, so that it convicts nobody."""
    batches = list(HONEST.batches)
    number = next(i for i, batch in enumerate(batches) if isinstance(batch.entries[0], RoundCommitted))
    after = batches.pop(number + 1)
    batches[number] = Batch((*batches[number].entries, *after.entries), after.cosigners)
    report = audit(replace(HONEST, batches=tuple(batches)))
    assert report.verdict is AuditVerdict.INCOMPLETE
    (missing,) = report.missing
    assert (missing.entry, missing.line) == (at(RoundPublished), Line.RELEASES)
    assert "fixed the cohort before there was an aggregate" in missing.problem
    states = {check.line: check.state for check in report.checks}
    assert states[Line.RELEASES] is CheckState.INCOMPLETE


# Where the log ends


def information(history: Told) -> str:
    report = audit(history)
    assert report.verdict is AuditVerdict.PASS
    return "\n".join(report.information)


def test_a_closed_log_leaves_nothing_open() -> None:
    assert information(HONEST) == ""


def test_an_attempt_that_still_collects() -> None:
    said = information(told(collecting("silo-2", "silo-0")))
    assert (
        "round 1 attempt 1, opened by entry 5, still collects updates: "
        "accepted, and neither used nor abandoned, are the updates of silo-0, silo-2"
    ) in said
    assert "the log is not closed: 0 of 2 rounds are published" in said


def test_an_attempt_without_updates() -> None:
    assert "still collects updates; it has accepted no update" in information(told(collecting()))


def test_an_attempt_that_is_committed_and_no_more() -> None:
    recorder = collecting("silo-0", "silo-2")
    recorder.batch(recorder.committed())
    assert "is committed, and neither published nor abandoned yet" in information(told(recorder))


def test_an_attempt_that_a_restart_interrupted() -> None:
    recorder = collecting("silo-0")
    recorder.boot = Boot("B")
    recorder.batch(recorder.started())
    assert "was interrupted by a restart, and is not abandoned yet" in information(told(recorder))


def test_a_reset_that_is_still_due_and_a_silo_that_is_barred() -> None:
    recorder = collecting("silo-0", "silo-2")
    recorder.batch(recorder.update_refused("silo-3", "wrong-parent"))
    recorder.batch(recorder.committed())
    recorder.batch(replace(recorder.abandoned(CHANGED_AFTER_ADMISSION), silo="silo-2"))
    said = information(told(recorder))
    assert "the control.reset that silo-3 is due has not come yet" in said
    assert "barred, as bytes of theirs changed between admission and merge: silo-2" in said


def test_a_log_that_ends_between_rounds() -> None:
    index = HONEST.index(RoundPublished) + 1
    honest = HONEST.until(HONEST.index(RoundOpened))
    assert "the log is not closed: 0 of 2 rounds are published" in information(honest)
    assert "1 of 2 rounds are published" in information(HONEST.until(index + 1))
    assert isinstance(HONEST.entries[-1], LogClosed)


def test_a_log_of_one_entry() -> None:
    recorder = Recorder(agreement_of())
    recorder.batch(recorder.genesis())
    assert "before the appliance's first start" in information(told(recorder))


def test_an_abandoned_attempt_uses_nothing() -> None:
    """Its updates are accounted for: the entry that ends it says so."""
    recorder = collecting("silo-0")
    recorder.batch(recorder.abandoned("below-minimum-cohort"))
    assert isinstance(recorder.batches[-1].entries[0], RoundAbandoned)
    assert "accepted" not in information(told(recorder))
