"""Evidence that does not vouch for what the log says of it: signed for by the log, appraised again by the audit."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from audit_forgery import AGREEMENT, HONEST, assert_diverges, at, audit, fields, without
from audit_history import (
    OTHER_CODE,
    PLATFORM,
    Boot,
    Recorder,
    agreement_of,
    honest,
    identity,
    sealing,
    told,
)

from attestation.collect.platform import SimulatedPlatform
from audit.entries import (
    ApplianceStarted,
    SiloAdmitted,
    SiloRefused,
)
from audit.report import AuditVerdict, Line
from protocol.agreement import Agreement
from protocol.enrolment import SiloKeys

EVIDENCE, TRUST = Line.EVIDENCE, Line.TRUST


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
    assert_diverges(history, index, Line.ENTRIES, "keys.sealing")


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


def test_a_genesis_is_not_an_agreement() -> None:
    """An operator can't pass his own agreement off: the auditor brings his own, and the digest is in the evidence."""
    forged = HONEST.with_fields(0, agreement=OTHER_AGREEMENT.digest)
    report = audit(forged, OTHER_AGREEMENT)
    assert report.divergence is not None
    assert report.divergence.line is TRUST
    assert "report_data" in report.divergence.problem


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
    "that is none": (lambda r: r.put(b"x" * 100), "expected a request that ends"),
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
