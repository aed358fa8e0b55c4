"""What real reports say in words and as JSON, and the reference values that come out of them."""

import json
from dataclasses import fields, replace

import pytest
from attestation_cases.snp import GoodCase, good_cases, load_cases
from synthetic_snp import of_version, revocation_list, simulated_evidence

from attestation import (
    EvidenceMalformed,
    EvidenceRefused,
    EvidenceUncheckable,
    SnpReferenceValues,
    Tee,
)
from attestation.appraisal import judge
from attestation.claims import as_json
from attestation.families import FAMILIES
from attestation.reference_values import ANY_CHIP, Covers, Revocation
from attestation.simulated.chip import simulated_chip
from attestation.snp.product import Product
from attestation.snp.report import SignedReport
from attestation.terms import FIRMWARE_ONLY_WARNING
from protocol.agreement_tees import render_tee
from protocol.policy import read_policy

GOOD = list(good_cases())
FACTS = {case.name: case.facts for case in load_cases()}
ONLY_VERDICTS_KNOW = {"certificate", "revocation"}


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
class TestEveryGoodCase:
    def test_a_verdict_says_what_the_report_says(self, case: GoodCase) -> None:
        claims = as_json(judge(case.evidence, [case.values], case.report_data, case.now).claims)
        report = SignedReport.parse(case.evidence.report).report
        assert claims["product"] == case.values.products[0]
        assert claims["measurements"] == [report.measurement.hex()]
        assert claims["report_data"] == report.report_data.hex()
        assert claims["debug"] is False
        assert claims["vmpl"] == report.vmpl
        assert claims["version"] == report.version
        assert claims["host_data"] == report.host_data.hex()
        assert claims["chip_id"] == report.chip_id.hex()
        assert claims["guest_svn"] == report.guest_svn
        assert set(claims["tcb"]) == {"reported", "current", "committed", "launch"}
        assert (claims["cpuid"] is None) is (report.version == 2)
        assert (claims["mitigations"] is None) is (report.version < 5)
        assert json.loads(json.dumps(claims)) == claims

    def test_a_verdict_says_what_the_vector_is_known_for(self, case: GoodCase) -> None:
        facts = FACTS.get(case.name)
        if facts is None:
            assert case.evidence.tee is Tee.SIMULATED
            return
        claims = as_json(judge(case.evidence, [case.values], case.report_data, case.now).claims)
        assert claims["measurements"] == [facts["measurement"]]
        assert claims["report_data"] == facts["report_data"]
        assert (claims["product"], claims["version"], claims["vmpl"]) == (
            facts["product"],
            facts["version"],
            facts["vmpl"],
        )
        assert claims["signer"]["kind"] == facts["signer"].lower()

    def test_unjudged_it_says_the_same_under_the_same_names(self, case: GoodCase) -> None:
        judged = as_json(judge(case.evidence, [case.values], case.report_data, case.now).claims)
        described = as_json(FAMILIES[case.evidence.tee].describe(case.evidence.report))
        assert judged.keys() - described.keys() == ONLY_VERDICTS_KNOW
        if SignedReport.parse(case.evidence.report).report.version == 2:
            assert described.pop("product") is None
            raw = described.pop("tcb")
            assert raw["reported"] == SignedReport.parse(case.evidence.report).report.reported_tcb.hex()
        if described["signer"]["kind"] == "vlek":
            assert described["signer"].pop("csp_id") is None
            assert judged["signer"].pop("csp_id") == "CN=cc-us-east-2.amazonaws.com"
        assert {name: judged[name] for name in described} == described

    def test_its_claims_are_one_line_each_for_a_person(self, case: GoodCase) -> None:
        verdict = judge(case.evidence, [case.values], case.report_data, case.now)
        for claim in verdict.claims:
            assert claim.words.isprintable()
            assert claim.words

    def test_the_reference_values_made_from_it_accept_it_and_little_else(self, case: GoodCase) -> None:
        values = FAMILIES[case.evidence.tee].reference(case.evidence)
        assert isinstance(values, SnpReferenceValues)
        verdict = judge(case.evidence, [values], case.report_data, case.now)
        assert len(values.products) == len(values.measurements) == len(values.policies) == len(values.signing_keys) == 1
        report = SignedReport.parse(case.evidence.report).report
        assert values.chip_ids == ((report.chip_id,) if any(report.chip_id) else ANY_CHIP)
        simulated = case.evidence.tee.simulated
        assert values.covers is (Covers.CODE if simulated else Covers.FIRMWARE_ONLY)
        assert (FIRMWARE_ONLY_WARNING in verdict.warnings) is not simulated
        assert values.revocation is (Revocation.CRL if len(case.evidence.endorsements) == 2 else Revocation.MINIMUM_TCB)
        strangers = [good for good in GOOD if good.values.measurements != case.values.measurements]
        other = strangers[0]
        if simulated:
            other = case._replace(evidence=simulated_evidence(measurement=b"o" * 48, more=(revocation_list(),)))
        with pytest.raises(EvidenceRefused):
            judge(other.evidence, [values], other.report_data, other.now)

    def test_they_are_written_with_a_comment_at_every_field_and_read_back(self, case: GoodCase) -> None:
        values = FAMILIES[case.evidence.tee].reference(case.evidence)
        text = render_tee(values, "appliance.tee", explained=True)
        assert read_policy(text.encode(), "policy.toml") == (values,)
        lines = text.splitlines()
        for name in (field.name for field in fields(values) if field.name != "csp_ids" or values.csp_ids):
            (place,) = [index for index, line in enumerate(lines) if line.startswith(f"{name} = ")]
            assert lines[place - 1].startswith("# ")


def test_debugging_is_said_in_words_and_no_reference_values_accept_it() -> None:
    (case,) = [case for case in load_cases() if case.facts["field"] == "policy.debug"]
    family = FAMILIES[Tee.SEV_SNP]
    claims = family.describe(case.report)
    assert as_json(claims)["debug"] is True
    (words,) = [claim.words for claim in claims if claim.name == "debug"]
    assert words == "allowed: the host reads and writes the guest's memory"
    with pytest.raises(EvidenceRefused) as refused:
        family.reference(case.evidence())
    assert refused.value.field == "policies"
    assert "DEBUG" in refused.value.expected


REPORT = SignedReport.parse(simulated_evidence().report).report


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("key_info.signing_key", {"signing_key": None}),
        ("key_info.mask_chip_key", {"mask_chip_key": True}),
        ("cpuid", {"cpuid": replace(REPORT.cpuid, family=0x17)}),
        ("policies", {"policy": 0x70000}),
        ("policies", {"policy": 0x30000 | 1 << 60}),
        ("report_id_ma", {"report_id_ma": bytes(32)}),
        ("platform_info", {"platform_info": 0x125}),
        ("vmpl", {"vmpl": 0xFFFFFFFF}),
        ("reported_tcb", {"reported_tcb": bytes.fromhex("0b00000000001954")}),
        ("committed_tcb", {"committed_tcb": bytes.fromhex("0b00000000001954")}),
        ("id_block.family_id", {"family_id": b"f" * 16}),
        ("id_block.minimum_guest_svn", {"guest_svn": 1}),
        ("key_info.author_key_en", {"author_key_enabled": True}),
    ],
)
def test_what_nobody_can_accept_has_no_reference_values(field: str, changes: dict) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        FAMILIES[Tee.SIMULATED].reference(simulated_evidence(**changes))
    assert refused.value.field == field


def test_reserved_bytes_are_malformed_there_and_raw_in_words() -> None:
    evidence = simulated_evidence(launch_tcb=bytes.fromhex("0a00000100001954"))
    with pytest.raises(EvidenceMalformed, match="launch_tcb"):
        FAMILIES[Tee.SIMULATED].reference(evidence)
    described = as_json(FAMILIES[Tee.SIMULATED].describe(evidence.report))
    assert described["tcb"]["launch"] == "0a00000100001954"
    assert described["tcb"]["current"] == {"bootloader": 10, "tee": 0, "snp": 25, "microcode": 84}


@pytest.mark.parametrize("name", ["test-vlek-report", "test-vlek-report-v2", "milan_old_v2", "genoa_oc_v2"])
def test_what_only_a_certificate_tells_could_not_be_checked_without_one(name: str) -> None:
    """The product of a version-2 report, the provider of a VLEK."""
    case = next(case for case in load_cases() if case.name.startswith(name + " "))
    with pytest.raises(EvidenceUncheckable) as refused:
        FAMILIES[Tee.SEV_SNP].reference(replace(case.evidence(), endorsements=()))
    assert refused.value.field == "endorsements"
    assert "certificate" in refused.value.expected


def test_from_version_3_on_a_chips_own_report_needs_no_certificate() -> None:
    case = next(case for case in load_cases() if case.name.startswith("turin_oc "))
    values = FAMILIES[Tee.SEV_SNP].reference(replace(case.evidence(), endorsements=()))
    assert values.products == (Product.TURIN,)
    assert values == FAMILIES[Tee.SEV_SNP].reference(case.evidence())


@pytest.mark.parametrize(("version", "family"), [(1, False), (2, True), (3, True), (4, True), (5, True), (6, False)])
def test_raw_reports_are_recognised_by_size_and_version(version: int, family: bool) -> None:
    signed = bytearray(simulated_chip().sign(of_version(5, REPORT)).encode())
    signed[0] = version
    assert FAMILIES[Tee.SEV_SNP].recognises(bytes(signed)) is family
    assert not FAMILIES[Tee.SEV_SNP].recognises(bytes(signed) + b"\0")
    assert not FAMILIES[Tee.SEV_SNP].recognises(b"")
