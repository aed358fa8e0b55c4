"""Real tokens, and public ones that are wrong on purpose: each gets the right verdict, for the right reason."""

import json
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from attestation_cases.azure_maa import good_cases as azure_cases
from attestation_cases.confidential_space import NONCE
from attestation_cases.confidential_space import good_cases as google_cases
from attestation_cases.good_case import GoodCase
from synthetic_tokens import DATA

from attestation import AttestationError, Evidence, EvidenceNotAuthentic, EvidenceRefused, Tee, appraise
from attestation.appraisal import judge
from attestation.families import FAMILIES
from attestation.recognise import recognise
from attestation.reference_values import ConfidentialSpaceReferenceValues
from attestation.terms import Covers, Revocation
from attestation.token.confidential_space.reference_values import GOOGLE_ROOT, Gpu, HardwareModel, SupportAttribute
from attestation.token.jwks import select_key

CASES = json.loads((DATA / "cases.json").read_text())
GOOD = [*google_cases(), *azure_cases()]
REAL = GOOD[0]


def evidence_of(case: dict) -> Evidence:
    evidence = recognise((DATA / case["evidence"]).read_bytes())
    assert evidence.tee == case["tee"]
    return evidence


def time_of(case: dict, key: str = "time") -> datetime:
    return datetime.fromisoformat(case[key])


# What an agreement says that wants exactly the workload of gcp_cs_tdx, from what the manifest knows.
WANTED = ConfidentialSpaceReferenceValues(
    tee=Tee.CONFIDENTIAL_SPACE,
    signing_keys=GOOGLE_ROOT,
    audiences=("z08381475938604996746", "https://echo.oak.dev"),
    maximum_age_seconds=3600,
    hwmodels=(HardwareModel.GCP_INTEL_TDX, HardwareModel.GCP_AMD_SEV),
    tcb_statuses=("UpToDate",),
    minimum_swversion=250300,
    support_attributes=(SupportAttribute.STABLE,),
    memory_monitoring=False,
    image_digests=(bytes.fromhex("e2e5e3672f416ac9ca71aa639abf86db0b713729a48c125a925af6c808b20b5d"),),
    image_references="any",
    cmd_override=(),
    env_override=(),
    project_ids=("oak-examples-477357",),
    zones="any",
    service_accounts=("724467010559-compute@developer.gserviceaccount.com",),
    gpu=Gpu.ABSENT,
    revocation=Revocation.SHORT_LIVED,
    covers=Covers.CODE,
)


def values_for(case: dict) -> Any:
    return WANTED if case["tee"] == Tee.CONFIDENTIAL_SPACE else next(iter(azure_cases())).values


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_public_token_gets_its_verdict(case: dict) -> None:
    if case["failure"] is None:
        verdict = judge(evidence_of(case), [values_for(case)], case["nonce"].encode(), time_of(case))
        assert verdict.measurement == WANTED.image_digests[0]
        assert verdict.product == "Google Confidential Space"
        assert "the root of trust is Google's attestation service" in verdict.warnings[0]
        assert sorted({check.number for check in verdict.checks}) == list(range(1, 26))
        return
    with pytest.raises(AttestationError) as refused:
        judge(evidence_of(case), [values_for(case)], None, time_of(case))
    assert type(refused.value).__name__ == case["failure"]
    assert refused.value.field == case["field"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_public_token_is_not_authentic_once_it_expired(case: dict) -> None:
    """Whether its key is at hand or not: the token's own words suffice to speak against it."""
    for now in (time_of(case, "expires"), time_of(case, "expires") + timedelta(days=1)):
        with pytest.raises(EvidenceNotAuthentic) as refused:
            judge(evidence_of(case), [values_for(case)], None, now)
        if case["field"] not in ("signature", "root", "iss"):
            assert refused.value.field == "exp"


def test_a_public_token_is_refused_before_it_begins() -> None:
    judge(REAL.evidence, [WANTED], None, REAL.now - timedelta(seconds=30))
    with pytest.raises(EvidenceNotAuthentic, match="^iat:"):
        judge(REAL.evidence, [WANTED], None, REAL.now - timedelta(seconds=31))


def test_after_two_months_the_leaf_has_expired_too() -> None:
    with pytest.raises(EvidenceNotAuthentic, match="^validity of CN=Confidential Space Leaf"):
        judge(REAL.evidence, [WANTED], None, datetime.fromisoformat("2025-11-04T00:00:00Z"))


@pytest.mark.parametrize("report_data", [NONCE.encode(), bytes.fromhex(NONCE)], ids=["text", "hexadecimal"])
def test_the_nonce_of_somebody_elses_token_is_compared(report_data: bytes) -> None:
    verdict = judge(REAL.evidence, [WANTED], report_data, REAL.now)
    assert verdict.report_data == report_data
    with pytest.raises(EvidenceRefused, match="^report_data:"):
        judge(REAL.evidence, [WANTED], report_data[1:], REAL.now)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_good_cases_are_accepted(case: GoodCase) -> None:
    assert case.report_data is not None
    verdict = appraise(case.evidence, [case.values], case.report_data, case.now)
    assert verdict.warnings
    assert verdict.tee.by_service
    with pytest.raises(EvidenceRefused, match="^report_data:"):
        appraise(case.evidence, [case.values], bytes([case.report_data[0] ^ 1]) + case.report_data[1:], case.now)
    with pytest.raises(EvidenceRefused, match="^report_data:"):
        appraise(case.evidence, [case.values], bytes(64), case.now)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_one_flipped_bit_of_a_token_is_refused(case: GoodCase) -> None:
    """Sampled. Nothing but a signature that verifies is appraised, and a token has one spelling."""
    report = case.evidence.report
    for bit in range(0, 8 * len(report), 211):
        flipped = bytearray(report)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AttestationError) as refused:
            judge(replace(case.evidence, report=bytes(flipped)), [case.values], None, case.now)
        assert not isinstance(refused.value, EvidenceRefused)


def test_each_reference_value_for_a_real_token_counts() -> None:
    other = {
        "audiences": ("somebody",),
        "hwmodels": (HardwareModel.GCP_AMD_SEV,),
        "tcb_statuses": ("OutOfDate",),
        "minimum_swversion": 250801,
        "support_attributes": (SupportAttribute.EXPERIMENTAL,),
        "image_digests": (bytes(31) + b"\1",),
        "image_references": ("somewhere",),
        "cmd_override": ("a",),
        "env_override": (("A", "b"),),
        "project_ids": ("another",),
        "zones": ("another",),
        "service_accounts": ("nobody@example.org",),
    }
    for name, value in other.items():
        changes = {name: value} | ({"tcb_statuses": ()} if name == "hwmodels" else {})
        with pytest.raises(EvidenceRefused) as refused:
            judge(REAL.evidence, [replace(WANTED, **changes)], None, REAL.now)
        assert refused.value.field == name
    with pytest.raises(EvidenceRefused, match="^maximum_age_seconds:"):
        judge(REAL.evidence, [replace(WANTED, maximum_age_seconds=60)], None, REAL.now + timedelta(seconds=61))
    with pytest.raises(EvidenceNotAuthentic, match="^signing_keys: expected a token under a pinned key"):
        judge(REAL.evidence, [replace(WANTED, signing_keys=(bytes(32),))], None, REAL.now)
    # Tested with tokens of our own, or without another value.
    rest = {"tee", "signing_keys", "maximum_age_seconds", "memory_monitoring", "gpu", "revocation", "covers"}
    assert {field.name for field in fields(WANTED)} == other.keys() | rest


def test_tokens_of_one_service_are_not_read_as_the_others() -> None:
    for case, other in ((GOOD[1], GOOD[-1]), (GOOD[-1], GOOD[1])):
        with pytest.raises(EvidenceRefused, match="^tee:"):
            judge(case.evidence, [other.values], None, case.now)
        disguised = replace(case.evidence, tee=other.evidence.tee)
        with pytest.raises(AttestationError):
            judge(disguised, [other.values], None, case.now)
        assert not FAMILIES[other.evidence.tee].recognises(case.evidence.report)


def test_azures_published_keys_of_2020_are_too_short_or_readable() -> None:
    """Five keys as Azure published them, in certificates only."""
    data = (DATA / "Azure-Samples-microsoft-azure-attestation" / "get.certs.response.body.json").read_bytes()
    kids = [key["kid"] for key in json.loads(data)["keys"]]
    with pytest.raises(EvidenceNotAuthentic, match="expected RSA of 2048 to 4096 bits"):
        select_key((data,), kids[0])
    for kid in kids[1:]:
        key = select_key((data,), kid)
        assert key is not None
        assert key.key.key_size == 2048
        assert key.certificate is not None
