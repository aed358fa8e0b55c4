"""Logs that lie and are signed for: every byte is what the log's own key signed, and only the meaning is wrong.

Each case names the entry at which an auditor must stop, the line of the checklist that catches it, and the words.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from audit_history import (
    OTHER_CODE,
    PLATFORM,
    QUORUM,
    Batch,
    Boot,
    Recorder,
    Told,
    agreement_of,
    honest,
    identity,
    sealing,
    token,
    told,
)

from attestation.collect.platform import SimulatedPlatform
from audit.entries import (
    ApplianceStarted,
    Entry,
    LogClosed,
    LogGenesis,
    RoundAbandoned,
    RoundCommitted,
    RoundOpened,
    RoundPublished,
    SiloAdmitted,
    SiloRefused,
    UpdateAccepted,
    UpdateRefused,
)
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict, CheckState, Line
from audit.verify import verify
from protocol import canonical
from protocol.agreement import Agreement
from protocol.enrolment import SiloKeys

AGREEMENT = agreement_of()
HONEST = honest(AGREEMENT)
ENTRIES, EVIDENCE, RELEASES, TRUST = Line.ENTRIES, Line.EVIDENCE, Line.RELEASES, Line.TRUST


def audit(history: Told, agreement: Agreement | None = None) -> AuditReport:
    return verify(LogFiles(history.store()), agreement or history.agreement)


def assert_diverges(history: Told, index: int, line: Line, words: str, agreement: Agreement | None = None) -> None:
    report = audit(history, agreement)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.line) == (index, line), report.divergence
    assert words in report.divergence.problem
    # The files are all right: nothing is blamed on the disk.
    assert report.damage == ()


def at(kind: type[Entry], number: int = 0) -> int:
    return HONEST.index(kind, number)


def fields(kind: type[Entry], number: int = 0, **changes: object) -> Told:
    return HONEST.with_fields(at(kind, number), **changes)


def swapped(first: int, second: int) -> Told:
    """Two entries in each other's place, with each other's time."""

    def change(entries: list[Entry | bytes]) -> None:
        a, b = entries[first], entries[second]
        entries[first], entries[second] = replace(b, time=a.time), replace(a, time=b.time)  # type: ignore

    return HONEST.with_entries(change)


def without(index: int) -> Told:
    """The entry never was; all others and all batches stay."""
    batches, position = [], 0
    for batch in HONEST.batches:
        kept = tuple(e for i, e in enumerate(batch.entries, position) if i != index)
        position += len(batch.entries)
        if kept:
            batches.append(replace(batch, entries=kept))
    return replace(HONEST, batches=tuple(batches))


def inserted(index: int, *entries: Entry, objects: tuple[bytes, ...] = ()) -> Told:
    """More entries before an index, in a batch of their own; later entries keep their fields."""
    batches, position = [], 0
    for batch in HONEST.batches:
        if position == index:
            batches.append(Batch(entries))
        position += len(batch.entries)
        batches.append(batch)
    return replace(HONEST, batches=tuple(batches), objects=(*HONEST.objects, *objects))


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
        lambda: fields(ApplianceStarted, 1, keys=replace(Boot("B").keys, log=bytes(32))),
        at(ApplianceStarted, 1),
        ENTRIES,
        "log key",
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


# The appliance's evidence


def evidence_of(purpose: str, boot: Boot, agreement: Agreement = AGREEMENT, **kwargs: SimulatedPlatform) -> bytes:
    recorder = Recorder(agreement)
    return recorder.objects[recorder.unattended_evidence(purpose, boot, **kwargs)]


OTHER_AGREEMENT = agreement_of(lambda text: text.replace("An example.", "An exemple."))
DEBUGGED = SimulatedPlatform(PLATFORM.measurement, policy=0x30000 | 1 << 19)
UNATTENDED = {
    "another boot's": (lambda purpose: evidence_of(purpose, Boot("C")), "report_data"),
    "for another purpose": (lambda _: evidence_of("genesis", Boot("B")), "report_data"),
    "another agreement's": (lambda purpose: evidence_of(purpose, Boot("B"), OTHER_AGREEMENT), "report_data"),
    "of other code": (lambda purpose: evidence_of(purpose, Boot("B"), platform=OTHER_CODE), "measurement"),
    "of a debugged guest": (lambda purpose: evidence_of(purpose, Boot("B"), platform=DEBUGGED), "policy"),
    "no evidence at all": (lambda _: b"trust me", "JSON"),
}


@pytest.mark.parametrize("name", UNATTENDED)
def test_a_boot_with_evidence_that_is_not_its_own(name: str) -> None:
    make, words = UNATTENDED[name]
    index, data = at(ApplianceStarted, 1), make("boot")
    history = HONEST.with_fields(index, data, evidence=Recorder(AGREEMENT).put(data))
    assert_diverges(history, index, EVIDENCE, words)


@pytest.mark.parametrize("role", ["signing", "sealing", "ca"])
def test_a_boot_whose_evidence_is_for_another_key(role: str) -> None:
    keys = replace(Boot("B").keys, **{role: getattr(Boot("C").keys, role)})
    index = at(ApplianceStarted, 1)
    assert_diverges(HONEST.with_fields(index, keys=keys), index, EVIDENCE, "report_data")


def test_a_boot_with_an_empty_key() -> None:
    index = at(ApplianceStarted, 1)
    history = HONEST.with_fields(index, keys=replace(Boot("B").keys, sealing=b""))
    assert_diverges(history, index, EVIDENCE, "keys")


def test_a_genesis_whose_evidence_is_for_another_log_key() -> None:
    """The operator's own log, under his own key, with the evidence of an honest one."""
    history = HONEST.with_fields(0, keys=replace(Boot("A").keys, log=identity("operator").public.raw))
    assert_diverges(history, 0, TRUST, "report_data")


def test_a_genesis_of_other_code() -> None:
    data = evidence_of("genesis", Boot("A"), platform=OTHER_CODE)
    history = HONEST.with_fields(0, data, evidence=Recorder(AGREEMENT).put(data))
    assert_diverges(history, 0, TRUST, "measurement")


def test_simulated_evidence_where_the_agreement_asks_for_a_real_tee() -> None:
    """All measurements are right; only the roots are not, and those are the agreement's choice."""
    real = agreement_of(
        lambda text: text.replace('tee = "simulated"', 'tee = "sev-snp"').replace("simulated.strongroom", "strongroom")
    )
    report = audit(honest(real))
    assert report.verdict is AuditVerdict.FAIL
    assert not report.simulated
    assert report.line == "FAIL"
    assert "expected sev-snp, found simulated" in str(report.divergence)


def test_another_agreement_than_the_logs() -> None:
    report = audit(HONEST, OTHER_AGREEMENT)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert report.divergence.line is Line.AGREEMENT
    assert HONEST.agreement.digest.hex() in report.divergence.problem
    assert OTHER_AGREEMENT.digest.hex() in report.divergence.problem


def test_a_log_that_begins_with_something_else() -> None:
    assert_diverges(without(0), 0, TRUST, "expected log.genesis")


@pytest.mark.parametrize("time", [2**40, 2**53 - 3601])
def test_a_time_that_no_calendar_has(time: int) -> None:
    assert_diverges(fields(SiloAdmitted, -1, time=time, expires=time + 3600), at(SiloAdmitted, -1), EVIDENCE, "time")


def test_evidence_is_judged_by_the_time_of_its_entry_and_not_by_ours() -> None:
    """The simulated certificates end with the year 2999: good for what was logged before, for nothing after."""
    index, after = at(SiloAdmitted, -2), 32_503_680_000 + 86_400
    later = HONEST.with_fields(index, time=after, expires=after + 3600)
    assert_diverges(later, index, EVIDENCE, "evidence-not-authentic")


# The silos' evidence

FOREIGN_KEYS = SiloKeys(identity=identity("silo-1").public.raw, sealing=sealing("x"), credential=b"x")
REQUESTS: dict[str, tuple[Callable[[Recorder], bytes], str]] = {
    "for another boot": (lambda r: r.request("silo-3", "x", boot_id=Boot("B").boot_id), "for this boot"),
    "for another appliance": (
        lambda r: r.request("silo-3", "x", appliance=Boot("B").keys.signing),
        "signing key",
    ),
    "for another agreement": (
        lambda r: r.request("silo-3", "x", agreement=OTHER_AGREEMENT.digest),
        "for this agreement",
    ),
    "with another identity key": (
        lambda r: r.request("silo-3", "x", keys=FOREIGN_KEYS),
        "expected the agreement's identity key",
    ),
    "of other code": (lambda r: r.request("silo-3", "x", platform=OTHER_CODE), "measurement"),
    "without evidence": (lambda r: r.request("silo-3", "x", platform=None), "expected evidence of simulated"),
    "signed by another silo": (
        lambda r: r.request("silo-3", "x", signer=identity("silo-0")),
        "the signature is not by",
    ),
    "by another silo": (lambda r: r.request("silo-0", "x"), "expected one by silo-3, found one by silo-0"),
    "by a stranger": (lambda r: r.request("silo-3", "x", silo="silo-9"), "by a silo that the agreement does not name"),
    "that is none": (lambda r: r.put(b"x" * 100), "JSON"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_admission_on_a_request(name: str) -> None:
    make, words = REQUESTS[name]
    recorder, index = Recorder(AGREEMENT), at(SiloAdmitted, 3)
    digest = make(recorder)
    assert_diverges(HONEST.with_fields(index, recorder.objects[digest], request=digest), index, EVIDENCE, words)


def test_evidence_of_a_silo_that_needs_none_is_refused() -> None:
    """tee = "none" is a statement, not a minimum."""
    recorder, index = Recorder(AGREEMENT), at(SiloAdmitted, 4)
    digest = recorder.request("silo-4", "x")
    history = HONEST.with_fields(index, recorder.objects[digest], request=digest)
    assert_diverges(history, index, EVIDENCE, "expected no evidence")


def test_an_admission_that_names_another_tee_than_its_evidence() -> None:
    assert_diverges(fields(SiloAdmitted, tee="sev-snp"), at(SiloAdmitted), EVIDENCE, "tee: expected simulated")
    assert_diverges(fields(SiloAdmitted, 4, tee="simulated"), at(SiloAdmitted, 4), EVIDENCE, "tee: expected none")


def test_a_request_admitted_twice() -> None:
    index = at(SiloAdmitted, 1)
    request = HONEST.entries[at(SiloAdmitted)].request  # type: ignore[union-attr]
    history = HONEST.with_fields(index, request=request, silo="silo-0")
    assert_diverges(history, index, EVIDENCE, "request: expected a new one")


@pytest.mark.parametrize("silo", ["silo-0", "silo-1"])
def test_a_challenge_used_twice(silo: str) -> None:
    """By the silo itself in a second request, or by another to which it was not given."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-0", request=recorder.request("silo-0", "one")))
    again = recorder.request(
        silo, "one", keys=SiloKeys(identity=identity(silo).public.raw, sealing=b"1", credential=b"2")
    )
    recorder.batch(recorder.admitted(silo, request=again))
    assert_diverges(told(recorder), 3, EVIDENCE, "challenge: expected a new one")


def test_a_challenge_that_a_refusal_used_up() -> None:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.refused("silo-0", "evidence-refused", recorder.request("silo-0", "x", platform=OTHER_CODE)))
    recorder.batch(recorder.admitted("silo-0", request=recorder.request("silo-0", "x")))
    assert_diverges(told(recorder), 3, EVIDENCE, "challenge: expected a new one")


def test_an_admission_replayed_after_a_restart() -> None:
    index = at(SiloAdmitted, -1)
    request = HONEST.entries[at(SiloAdmitted, 4)].request  # type: ignore[union-attr]
    assert_diverges(HONEST.with_fields(index, request=request), index, EVIDENCE, "for this boot")


# Refusals

REFUSALS: dict[str, tuple[str, Callable[[Recorder], bytes]]] = {
    "evidence that is good": ("evidence-refused", lambda r: r.request("silo-3", "x")),
    "no TEE where none is asked for": ("evidence-refused", lambda r: r.request("silo-4", "x", platform=None)),
    "an agreement that is the same": ("agreement-mismatch", lambda r: r.request("silo-3", "x")),
    "what is answered and never logged": ("stale-nonce", lambda r: r.request("silo-3", "x")),
    "an identity that is right": ("identity-signature", lambda r: r.request("silo-3", "x")),
    "keys that are usable": ("malformed", lambda r: r.request("silo-3", "x")),
    "no reason": ("busy", lambda r: r.request("silo-3", "x")),
    "a reason nobody knows": ("bad-mood", lambda r: r.request("silo-3", "x")),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_silo_refused_for(name: str) -> None:
    code, make = REFUSALS[name]
    recorder, index = Recorder(AGREEMENT), at(SiloRefused)
    digest = make(recorder)
    silo = "silo-4" if code == "evidence-refused" and "TEE" in name else "silo-3"
    changed = HONEST.with_fields(index, recorder.objects[digest], request=digest, code=code, silo=silo)
    assert_diverges(changed, index, EVIDENCE, "code: ")


TRUE_REFUSALS: dict[str, Callable[[Recorder], bytes]] = {
    "agreement-mismatch": lambda r: r.request("silo-3", "x", agreement=OTHER_AGREEMENT.digest),
    "identity-signature": lambda r: r.request("silo-3", "x", keys=FOREIGN_KEYS),
    "malformed": lambda r: r.request("silo-3", "x", keys=replace(FOREIGN_KEYS, identity=identity("silo-3").public.raw)),
    "evidence-refused": lambda r: r.request("silo-3", "x", platform=None),
}


@pytest.mark.parametrize("code", TRUE_REFUSALS)
def test_a_silo_refused_for_a_true_reason(code: str) -> None:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.refused("silo-3", code, TRUE_REFUSALS[code](recorder)))
    report = audit(told(recorder))
    assert report.verdict is AuditVerdict.PASS
    assert report.counts.refusals == 1


def test_a_refusal_of_a_request_for_another_boot() -> None:
    """Anybody can repeat an old request: it is not held against the silo."""
    recorder, index = Recorder(AGREEMENT), at(SiloRefused)
    digest = recorder.request("silo-3", "x", platform=OTHER_CODE, boot_id=Boot("C").boot_id)
    changed = HONEST.with_fields(index, recorder.objects[digest], request=digest)
    assert_diverges(changed, index, EVIDENCE, "for this boot")


def test_a_request_refused_twice() -> None:
    index = at(SiloRefused, 1)
    first = HONEST.entries[at(SiloRefused)]
    changed = HONEST.with_fields(index, request=first.request, code="evidence-refused")  # type: ignore[union-attr]
    assert_diverges(changed, index, EVIDENCE, "request: expected a new one")


def test_a_refusal_that_the_silo_never_asked_for() -> None:
    recorder, index = Recorder(AGREEMENT), at(SiloRefused)
    digest = recorder.request("silo-3", "x", platform=OTHER_CODE, signer=identity("operator"))
    changed = HONEST.with_fields(index, recorder.objects[digest], request=digest)
    assert_diverges(changed, index, EVIDENCE, "the signature is not by")


# What this reader doesn't know


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "key.rotated", "version": 1, "time": 1},
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


def test_a_genesis_is_not_an_agreement() -> None:
    """An operator can't pass his own agreement off: the auditor brings his own, and the digest is in the evidence."""
    assert isinstance(HONEST.entries[0], LogGenesis)
    forged = HONEST.with_fields(0, agreement=OTHER_AGREEMENT.digest)
    report = audit(forged, OTHER_AGREEMENT)
    assert report.divergence is not None
    assert report.divergence.line is TRUST
    assert "report_data" in report.divergence.problem
