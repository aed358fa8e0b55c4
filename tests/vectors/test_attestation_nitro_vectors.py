"""Real attestation documents: accepted at their time; refused after it, with a bit changed, or for other values."""

import json
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from attestation_cases.good_case import GoodCase
from attestation_cases.nitro import DATA, good_cases

from attestation import AttestationError, Evidence, EvidenceNotAuthentic, EvidenceRefused, Tee, appraise
from attestation.appraisal import judge
from attestation.families import FAMILIES
from attestation.nitro.reference_values import ANY, NitroReferenceValues, Presence
from attestation.recognise import recognise
from attestation.terms import Covers, Revocation

FAMILY = FAMILIES[Tee.NITRO]
CASES = json.loads((DATA / "cases.json").read_text())
VALID = [case for case in CASES if case["verdict"] == "valid"]
DEBUG = [case for case in CASES if case["failure"] is not None]
GOOD = list(good_cases())
SAMPLE = Path(DATA / "evervault-attestation-doc-validation" / "valid-attestation-doc-bytes")


def evidence_of(case: dict) -> Evidence:
    evidence = recognise((DATA / case["evidence"]).read_bytes())
    assert evidence.tee is Tee.NITRO
    return evidence


def time_of(case: dict, key: str = "time") -> datetime:
    return datetime.fromisoformat(case[key])


def values_for(case: dict) -> NitroReferenceValues:
    """What an agreement that wants exactly this enclave would say, from what the manifest knows."""
    registers = {index: bytes.fromhex(value) for index, value in case["pcrs"].items()}
    other = bytes(range(48))
    return NitroReferenceValues(
        tee=Tee.NITRO,
        pcr0=(registers.get("0", other),),
        pcr1=(registers.get("1", other),),
        pcr2=(registers.get("2", other),),
        pcr3=(registers.get("3", bytes(48)),),
        pcr4=(registers["4"],),
        pcr8=(registers.get("8", bytes(48)),),
        module_ids=ANY,
        maximum_age_seconds=10800,
        nonce=Presence.ABSENT if case["nonce"] is None else Presence.ANY,
        public_key=Presence.ANY,
        revocation=Revocation.SHORT_LIVED,
        covers=Covers.CODE,
    )


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_vectors_cover_both_forms_and_both_verdicts() -> None:
    assert len(VALID) == 5
    assert len(DEBUG) == 8
    assert len(GOOD) == 4  # one document was published twice
    payload_starts = {evidence_of(case).report[10:11] for case in CASES}
    assert payload_starts == {b"\xbf", b"\xa9"}  # a map of indefinite and of definite length


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_a_real_document_is_accepted_at_its_time(case: dict) -> None:
    verdict = judge(evidence_of(case), [values_for(case)], None, time_of(case))
    claims = {claim.name: claim.value for claim in verdict.claims}
    assert verdict.measurement.hex() == case["pcrs"]["0"]
    assert claims["nonce"] == case["nonce"]
    assert {f"pcr{index}": value for index, value in case["pcrs"].items()}.items() <= claims["measurements"].items()
    assert claims["debug"] is False
    assert verdict.warnings == ()
    assert not verdict.simulated
    assert sorted({check.number for check in verdict.checks}) == list(range(1, 18))


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_what_reference_prints_accepts_the_document(case: dict) -> None:
    evidence = evidence_of(case)
    judge(evidence, [FAMILY.reference(evidence)], None, time_of(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_real_document_is_authentic_until_its_last_second(case: dict) -> None:
    FAMILY.authenticate(evidence_of(case), time_of(case, "not_before"))
    FAMILY.authenticate(evidence_of(case), time_of(case, "not_after"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("outside", ["a day late", "a second late", "a second early"])
def test_a_real_document_is_refused_outside_its_certificates_time(case: dict, outside: str) -> None:
    day, second = timedelta(days=1), timedelta(seconds=1)
    not_before, not_after = time_of(case, "not_before"), time_of(case, "not_after")
    now = {"a day late": not_after + day, "a second late": not_after + second}.get(outside, not_before - second)
    with pytest.raises(EvidenceNotAuthentic, match="validity of .*expected a time from") as refused:
        judge(evidence_of(case), [values_for(case)], None, now)
    assert refused.value.number == 4


@pytest.mark.parametrize("case", DEBUG, ids=lambda case: case["name"])
def test_an_enclave_in_debug_mode_is_refused_for_that(case: dict) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        judge(evidence_of(case), [values_for(case)], None, time_of(case))
    assert refused.value.field == "debug"
    assert refused.value.number == 6
    with pytest.raises(EvidenceRefused, match="^debug:"):
        FAMILY.reference(evidence_of(case))


def test_user_data_is_what_a_document_commits_to() -> None:
    case = next(case for case in GOOD if case.report_data is not None)
    assert case.report_data is not None
    verdict = appraise(case.evidence, [case.values], case.report_data, case.now)
    assert verdict.report_data == case.report_data
    for other in (flipped(case.report_data, 511), bytes(64)):
        with pytest.raises(EvidenceRefused, match="^report_data:"):
            appraise(case.evidence, [case.values], other, case.now)


def test_zero_and_absent_user_data_commit_to_nothing() -> None:
    for case in GOOD:
        if case.report_data is None:
            with pytest.raises(EvidenceRefused, match="^report_data:"):
                appraise(case.evidence, [case.values], bytes(64), case.now)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_one_flipped_bit_of_the_signed_parts_is_refused(case: GoodCase) -> None:
    """Sampled; those that still parse fail at the chain or the signature."""
    bits = [8 * index + index % 8 for part in case.signed for index in part][::29]
    authentic = 0
    for bit in bits:
        changed = replace(case.evidence, report=flipped(case.evidence.report, bit))
        with pytest.raises(AttestationError) as refused:
            judge(changed, [case.values], None, case.now)
        assert not isinstance(refused.value, EvidenceRefused)
        authentic += isinstance(refused.value, EvidenceNotAuthentic)
    assert authentic > len(bits) // 2


def test_documents_and_signatures_of_different_enclaves_are_refused() -> None:
    for case in GOOD:
        for other in GOOD:
            if other is not case:
                mixed = case.evidence.report[:-96] + other.evidence.report[-96:]
                with pytest.raises(EvidenceNotAuthentic, match="^signature:"):
                    judge(replace(case.evidence, report=mixed), [case.values], None, case.now)


def test_each_reference_value_counts() -> None:
    """One value at a time is changed; the refusal names it."""
    case = next(case for case in GOOD if case.name == SAMPLE.name)
    other = (bytes(range(48)),)
    changes = dict.fromkeys(("pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr8"), other)
    changes |= {"module_ids": ("i-0-enc0",), "nonce": Presence.ABSENT}
    for name, value in changes.items():
        with pytest.raises(EvidenceRefused) as refused:
            judge(case.evidence, [replace(case.values, **{name: value})], None, case.now)
        assert refused.value.field == name
    with pytest.raises(EvidenceRefused, match="^maximum_age_seconds:"):
        judge(case.evidence, [replace(case.values, maximum_age_seconds=60)], None, case.now + timedelta(seconds=62))
    warned = judge(case.evidence, [replace(case.values, covers=Covers.FIRMWARE_ONLY)], None, case.now)
    assert "firmware only" in warned.warnings[0]
    # These can't differ (tee, revocation), or the document has none (public_key, tested with one of our own).
    assert {field.name for field in fields(case.values)} - changes.keys() == {
        "tee",
        "maximum_age_seconds",
        "public_key",
        "revocation",
        "covers",
    }
