"""Real SEV-SNP reports: accepted at their time; refused after it, with a bit changed, or for other reference values."""

from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest
from attestation_cases.snp import AWS, DATA, Case, GoodCase, changed_values, good_cases, load_cases, values_for

from attestation import (
    AttestationError,
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    Tee,
    appraise,
)
from attestation.appraisal import judge
from attestation.certificates import load_certificate
from attestation.snp.appraise import MILAN_WARNING
from attestation.snp.authenticate import authenticate
from attestation.snp.certificates import EndorsementKey
from attestation.snp.product import Product
from attestation.snp.report import SIGNED_BYTES, SignedReport
from attestation.snp.roots import vendor_roots

CASES = load_cases()
AUTHENTIC = [case for case in CASES if case.facts["verdict"] in ("valid", "policy_reject")]
ACCEPTED = [case for case in CASES if case.facts["verdict"] == "valid" and case.facts["failure"] is None]
GOOD = list(good_cases())
REFUSED = [case for case in CASES if case.facts["failure"] is not None]


def by_name(name: str) -> Case:
    return next(case for case in CASES if case.name.startswith(name + " "))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_vectors_cover_products_versions_and_signers() -> None:
    assert {case.facts["product"] for case in ACCEPTED} == {"Milan", "Genoa", "Turin"}
    assert {case.facts["version"] for case in ACCEPTED} == {2, 3, 5}
    assert {case.facts["signer"] for case in ACCEPTED} == {"VCEK", "VLEK"}
    assert len(ACCEPTED) >= 19
    assert len(REFUSED) >= 14


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_a_real_report_is_accepted_at_its_time(case: Case) -> None:
    verdict = appraise(case.evidence(), [values_for(case)], case.report_data, case.time)
    assert verdict.measurement.hex() == case.facts["measurement"]
    assert verdict.report_data == case.report_data
    assert verdict.product == case.facts["product"]
    assert not verdict.simulated
    numbers = [check.number for check in verdict.checks]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 23))
    assert verdict.warnings == ((MILAN_WARNING,) if verdict.product == "Milan" else ())


@pytest.mark.parametrize("case", AUTHENTIC, ids=lambda case: case.name)
def test_a_real_report_is_authentic_until_its_last_second(case: Case) -> None:
    authentic = authenticate(SignedReport.parse(case.report), case.endorsements, vendor_roots(), case.not_after)
    assert authentic.product == case.facts["product"]
    assert authentic.key.kind == case.facts["signer"].lower()
    assert authentic.report.version == case.facts["version"]
    assert authentic.report.vmpl == case.facts["vmpl"]


@pytest.mark.parametrize("case", AUTHENTIC, ids=lambda case: case.name)
@pytest.mark.parametrize("outside", ["a day late", "a second early"])
def test_a_real_report_is_refused_outside_its_certificates_time(case: Case, outside: str) -> None:
    now = case.not_after + timedelta(days=1) if outside == "a day late" else case.time - timedelta(seconds=1)
    with pytest.raises(EvidenceNotAuthentic, match=r"validity of CN=SEV-V.EK.*expected a time from"):
        appraise(case.evidence(), [values_for(case)], case.report_data, now)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_bad_vector_is_refused_with_its_class_of_error(case: Case) -> None:
    values = values_for(case) if case in AUTHENTIC else values_for(by_name("test-report"))
    now = case.time if case in AUTHENTIC else datetime.fromisoformat("2024-06-01T00:00:00Z")
    report_data = case.report_data if case in AUTHENTIC else bytes(63) + b"\1"
    with pytest.raises(AttestationError) as refused:
        appraise(case.evidence(), [values], report_data, now)
    assert type(refused.value).__name__ == case.facts["failure"]
    if case.facts["field"] is not None:
        assert refused.value.field == case.facts["field"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_report_and_certificate_of_different_reports_are_refused(case: Case) -> None:
    """Every report, with every other report's certificate, inside the time of both."""
    now = datetime.fromisoformat("2025-03-01T00:00:00Z")
    others = {other.endorsements for other in AUTHENTIC} - {case.endorsements}
    twin = by_name("milan_attestation_report").report
    for endorsements in sorted(others):
        if case.report == twin and endorsements in {c.endorsements for c in AUTHENTIC if c.report == twin}:
            continue
        with pytest.raises(AttestationError):
            appraise(
                Evidence(tee=Tee.SEV_SNP, report=case.report, endorsements=endorsements),
                [values_for(by_name("test-report"))],
                bytes(63) + b"\1",
                now,
            )


@pytest.mark.parametrize("name", ["turin_oc"])
def test_every_signed_byte_counts(name: str) -> None:
    """Whatever parses with a changed byte fails at the signature, before anything in it is believed."""
    case = by_name(name)
    parsed = 0
    for index in range(SIGNED_BYTES):
        changed = flipped(case.report, 8 * index + index % 8)
        try:
            signed_report = SignedReport.parse(changed)
        except AttestationError:
            continue
        parsed += 1
        with pytest.raises(EvidenceNotAuthentic):
            authenticate(signed_report, case.endorsements, vendor_roots(), case.time)
    assert parsed > 400


@pytest.mark.parametrize("name", ["milan_old_v2", "test-vlek-report", "turin_oc"])
def test_one_flipped_bit_of_the_certificate_is_refused(name: str) -> None:
    case = by_name(name)
    values = values_for(case)
    (certificate,) = case.endorsements
    for bit in range(0, 8 * len(certificate), 41):
        evidence = replace(case.evidence(), endorsements=(flipped(certificate, bit),))
        with pytest.raises(AttestationError):
            appraise(evidence, [values], case.report_data, case.time)


@pytest.mark.parametrize("name", ["genoa_oc_v5", "test-vlek-report", "turin_oc"])
def test_a_real_report_is_refused_where_simulated_ones_are_asked_for(name: str) -> None:
    case = by_name(name)
    values = replace(values_for(case), tee=Tee.SIMULATED)
    with pytest.raises(EvidenceRefused, match="tee: expected simulated, found sev-snp"):
        appraise(case.evidence(), [values], case.report_data, case.time)
    with pytest.raises(EvidenceNotAuthentic, match=r"issuer of the V.EK"):
        appraise(case.evidence(Tee.SIMULATED), [values], case.report_data, case.time)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_each_reference_value_counts(case: GoodCase) -> None:
    """One value at a time is changed; the refusal has its name."""
    tried = set()
    for field, values in changed_values(case):
        with pytest.raises((EvidenceRefused, EvidenceUncheckable)) as refused:
            judge(case.evidence, [values], case.report_data, case.now)
        assert refused.value.field == field
        assert isinstance(refused.value, EvidenceUncheckable) is (field == "revocation")
        assert refused.value.number is not None
        assert refused.value.passed
        tried.add(field.partition(".")[0])
    # `tee` chooses the roots (a test of its own), `covers` is not appraised, and a CRL or a VLEK may not be there.
    fields_of_it = {field.name for field in fields(case.values)} - {"tee", "covers"}
    assert tried >= fields_of_it - {"revocation", "csp_ids", "provisional_firmware"}


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_it_commits_to_counts(case: GoodCase) -> None:
    if case.report_data is None:
        return
    with pytest.raises(EvidenceRefused) as refused:
        judge(case.evidence, [case.values], case.report_data[:-1] + b"\xa5", case.now)
    assert (refused.value.field, refused.value.number) == ("report_data", 22)
    assert {check.number for check in refused.value.passed} == set(range(1, 22))


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_flipped_bit_of_the_signed_part_is_refused(case: GoodCase) -> None:
    """Sampled, another sample for each case."""
    for part in case.signed:
        for bit in range(8 * part.start + len(case.name) % 97, 8 * part.stop, 97):
            evidence = replace(case.evidence, report=flipped(case.evidence.report, bit))
            with pytest.raises((EvidenceMalformed, EvidenceNotAuthentic)):
                judge(evidence, [case.values], case.report_data, case.now)


@pytest.mark.parametrize("name", ["genoa_oc_v5", "test-vlek-report", "turin_oc", "milan_old_v2"])
def test_a_minimum_is_reached_component_by_component(name: str) -> None:
    """One component too low is too low, however far the others are above their minimum."""
    case = by_name(name)
    good = values_for(case)
    tcb = good.minimum_tcb[0]
    for component, value in tcb.components().items():
        minimum = replace(tcb, **{**dict.fromkeys(tcb.components(), 0), component: value + 1})
        with pytest.raises(EvidenceRefused, match=f"too low in {component}"):
            appraise(case.evidence(), [replace(good, minimum_tcb=(minimum,))], case.report_data, case.time)


def test_a_providers_key_is_accepted_for_that_provider_only() -> None:
    case = by_name("test-vlek-report")
    values = replace(values_for(case), csp_ids=("CN=cc-eu-west-1.amazonaws.com",))
    with pytest.raises(EvidenceRefused) as refused:
        appraise(case.evidence(), [values], case.report_data, case.time)
    assert refused.value.field == "csp_ids"
    assert refused.value.found == AWS


def test_firmware_that_can_be_rolled_back_is_refused_unless_accepted_in_words() -> None:
    case = by_name("test-vlek-report")
    values = replace(values_for(case), provisional_firmware=False)
    with pytest.raises(EvidenceRefused) as refused:
        appraise(case.evidence(), [values], case.report_data, case.time)
    assert refused.value.field == "provisional_firmware"


def test_a_chip_list_names_the_chip() -> None:
    case = by_name("turin_oc")
    chip_id = SignedReport.parse(case.report).report.chip_id
    values = replace(values_for(case), chip_ids=(chip_id,))
    assert appraise(case.evidence(), [values], case.report_data, case.time).product is Product.TURIN


def test_the_vendors_own_chain_may_come_along_and_a_foreign_one_may_not() -> None:
    case = by_name("snp_report")
    assert len(case.endorsements) == 3
    appraise(case.evidence(), [values_for(case)], case.report_data, case.time)
    foreign = by_name("turin_oc")
    with pytest.raises(AttestationError, match="endorsements: expected one VCEK or VLEK certificate, found 2"):
        appraise(
            replace(case.evidence(), endorsements=case.endorsements + foreign.endorsements),
            [values_for(case)],
            case.report_data,
            case.time,
        )


def test_both_forms_of_the_hardware_id_are_read() -> None:
    """`test-vcek-invalid-new.der` wraps it in an OCTET STRING, its older twin does not."""
    keys = [
        EndorsementKey.parse(load_certificate((DATA / "confidential-containers-trustee" / name).read_bytes(), "VCEK"))
        for name in ("test-vcek-invalid-new.der", "test-vcek-invalid-legacy.der")
    ]
    assert keys[0].chip_id == keys[1].chip_id == bytes(range(64))
