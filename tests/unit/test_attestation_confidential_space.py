"""Confidential Space tokens of our own service: each claim that matters is compared, and named when it differs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from case_names import named
from synthetic_tokens import (
    GOOGLE,
    NOW,
    REPORT_DATA,
    TDX,
    google_claims,
    oidc_token,
    pinned,
    pki_token,
)

from attestation import (
    AttestationError,
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    ReferenceValuesError,
    Tee,
)
from attestation.appraisal import judge
from attestation.claims import as_json
from attestation.terms import Covers, Revocation
from attestation.token.confidential_space.reference_values import (
    ConfidentialSpaceReferenceValues,
    Gpu,
    HardwareModel,
    SupportAttribute,
)
from attestation.verdict import Verdict

GOOD = oidc_token()
VALUES = GOOGLE.reference(GOOD)
assert isinstance(VALUES, ConfidentialSpaceReferenceValues)
TDX_VALUES = replace(VALUES, hwmodels=(HardwareModel.GCP_INTEL_TDX,), tcb_statuses=("UpToDate",))


def appraised(
    evidence: Evidence = GOOD, report_data: bytes | None = REPORT_DATA, values: Any = VALUES, **changes: Any
) -> Verdict:
    return GOOGLE.authenticate(evidence, NOW).appraise(replace(values, **changes), report_data)


def token(**claims: Any) -> Evidence:
    return oidc_token(google_claims(**claims))


def test_an_oidc_token_is_accepted_under_a_pinned_key() -> None:
    verdict = judge(GOOD, [VALUES], REPORT_DATA, NOW)
    assert verdict.report_data == REPORT_DATA
    claims = as_json(verdict.claims)
    assert claims["debug"] is False
    assert claims["signer"] == "https://confidentialcomputing.googleapis.com"
    assert claims["measurements"] == {"image_digest": verdict.measurement.hex()}


def test_a_pki_token_is_accepted_under_the_root_only() -> None:
    values = replace(VALUES, signing_keys="google-root")
    verdict = appraised(pki_token(), values=values)
    assert [check.expected for check in verdict.checks if check.number == 8] == ["google-root"]
    with pytest.raises(EvidenceNotAuthentic, match="^root: expected the pinned CN=Confidential Space Root CA"):
        judge(pki_token(), [values], REPORT_DATA, NOW)


def test_another_signer_is_not_authentic() -> None:
    for evidence, keys, found in (
        (GOOD, (bytes(32),), pinned()[0].hex()),
        (GOOD, "google-root", "one under the key"),
        (pki_token(), pinned(), "one with a chain"),
    ):
        with pytest.raises(EvidenceNotAuthentic, match=f"^signing_keys: .*found {found}") as refused:
            appraised(evidence, signing_keys=keys)
        assert refused.value.number == 8


def test_an_issuer_is_compared_exactly() -> None:
    good = "https://confidentialcomputing.googleapis.com"
    for issuer in (f"{good}/", good.upper(), "https://accounts.google.com", f"{good}.example.org", good[8:]):
        with pytest.raises(EvidenceNotAuthentic, match="^iss: "):
            appraised(token(iss=issuer))


@pytest.mark.parametrize(
    ("claims", "field"),
    [
        ({"aud": "somebody else"}, "audiences"),
        ({"swname": "GCE"}, "swname"),
        ({"swname": ...}, "swname"),
        ({"dbgstat": "enabled"}, "dbgstat"),
        ({"dbgstat": "disabled"}, "dbgstat"),
        ({"dbgstat": ...}, "dbgstat"),
        ({"secboot": False}, "secboot"),
        ({"secboot": ...}, "secboot"),
        ({"oemid": 1}, "oemid"),
        ({"oemid": ...}, "oemid"),
        ({"hwmodel": "GCP_AMD_SEV_ES"}, "hwmodels"),
        ({"hwmodel": "GCP_SHIELDED_VM"}, "hwmodels"),
        ({"hwmodel": ...}, "hwmodels"),
        ({"swversion": ["250300"]}, "minimum_swversion"),
        ({"swversion": ...}, "minimum_swversion"),
        ({"submods/confidential_space/support_attributes": ["USABLE"]}, "support_attributes"),
        ({"submods/confidential_space": ...}, "support_attributes"),
        ({"submods/confidential_space/monitoring_enabled/memory": True}, "memory_monitoring"),
        ({"submods/confidential_space/monitoring_enabled": ...}, "memory_monitoring"),
        ({"submods/container/image_digest": "sha256:" + "00" * 32}, "image_digests"),
        ({"submods/container": ...}, "image_digests"),
        ({"submods/container/image_reference": "elsewhere"}, "image_references"),
        ({"submods/container/cmd_override": ["--steal"]}, "cmd_override"),
        ({"submods/container/env_override": {"LD_PRELOAD": "x"}}, "env_override"),
        ({"submods/gce/project_id": "another"}, "project_ids"),
        ({"submods/gce/zone": "another"}, "zones"),
        ({"google_service_accounts": ["somebody@else"]}, "service_accounts"),
        ({"google_service_accounts": []}, "service_accounts"),
        (
            {"google_service_accounts": ["691249393555-compute@developer.gserviceaccount.com", "x@y"]},
            "service_accounts",
        ),
        ({"submods/nvidia_gpu": {"cc_mode": "ON"}}, "gpu"),
        ({"eat_nonce": ...}, "report_data"),
        ({"eat_nonce": []}, "report_data"),
        ({"eat_nonce": "another nonce"}, "report_data"),
    ],
    ids=named,
)
def test_an_authentic_token_is_refused_by_field(claims: Mapping[str, Any], field: str) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        appraised(token(**claims))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("claims", "field"),
    [
        ({"attester_tcb": ...}, "attester_tcb"),
        ({"attester_tcb": ["GOOGLE"]}, "attester_tcb"),
        ({"attester_tcb": ["INTEL", "GOOGLE"]}, "attester_tcb"),
        ({"tdx": ...}, "tcb_statuses"),
        ({"tdx/gcp_attester_tcb_status": "OutOfDate"}, "tcb_statuses"),
    ],
    ids=named,
)
def test_a_tdx_machine_needs_intels_word(claims: Mapping[str, Any], field: str) -> None:
    appraised(token(**TDX), values=TDX_VALUES)
    with pytest.raises(EvidenceRefused) as refused:
        appraised(token(**{**TDX, **claims}), values=TDX_VALUES)
    assert refused.value.field == field


def test_what_may_differ_is_accepted() -> None:
    for claims, changes in (
        ({"eat_nonce": ["another nonce", google_claims()["eat_nonce"]]}, {}),
        ({"swversion": ["20260700"]}, {}),
        ({"submods/container/cmd_override": [], "submods/container/env_override": {}}, {}),
        ({"submods/container/cmd_override": ["a", "b"]}, {"cmd_override": ("a", "b")}),
        ({"submods/container/env_override": {"B": "2", "A": "1"}}, {"env_override": (("A", "1"), ("B", "2"))}),
        ({"submods/gce/zone": "another"}, {"zones": "any"}),
        ({"google_service_accounts": []}, {"service_accounts": "any"}),
        ({"submods/container/image_reference": "elsewhere"}, {"image_references": "any"}),
        ({"submods/nvidia_gpu": {"cc_mode": "ON"}}, {"gpu": Gpu.ON}),
        ({}, {"gpu": Gpu.ON}),
        ({"submods/confidential_space/monitoring_enabled/memory": True}, {"memory_monitoring": True}),
        ({"a new claim": {"of": ["any", "form", 1.5]}}, {}),
    ):
        appraised(token(**claims), **changes)
    appraised(token(**{**TDX, "tdx": [TDX["tdx"]]}), values=TDX_VALUES)
    for mode in ("OFF", "DEVTOOLS", "", None):
        with pytest.raises(EvidenceRefused, match="^gpu:"):
            appraised(token(**{"submods/nvidia_gpu": {"cc_mode": mode}}), gpu=Gpu.ON)


@pytest.mark.parametrize(
    ("claims", "field"),
    [
        ({"aud": ["a"]}, "aud"),
        ({"aud": ...}, "aud"),
        ({"eat_nonce": 5}, "eat_nonce"),
        ({"eat_nonce": ["n"] * 7}, "eat_nonce"),
        ({"eat_nonce": [1]}, "eat_nonce"),
        ({"swversion": "250301"}, "swversion"),
        ({"swversion": ["250301", "250302"]}, "swversion"),
        ({"swversion": ["25.3"]}, "swversion"),
        ({"secboot": "true"}, "secboot"),
        ({"submods": []}, "submods"),
        ({"submods/gce": "x"}, "submods.gce"),
        ({"submods/container/image_digest": "sha512:00"}, "submods.container.image_digest"),
        ({"submods/container/image_digest": "sha256:" + "0A" * 32}, "submods.container.image_digest"),
        ({"submods/container/cmd_override": "x"}, "submods.container.cmd_override"),
        ({"submods/container/env_override": {"A": 1}}, "submods.container.env_override"),
        ({"submods/container/env_override": []}, "submods.container.env_override"),
        ({"tdx": [{}, {}]}, "tdx"),
        ({"hwmodel": "\ud800"}, "hwmodel"),
        ({"sub": "x" * 9000}, "sub"),
    ],
    ids=ascii,
)
def test_a_claim_in_another_form_is_malformed(claims: Mapping[str, Any], field: str) -> None:
    with pytest.raises(EvidenceMalformed) as refused:
        appraised(token(**claims))
    assert refused.value.field == field


def test_verdicts_warn_of_what_is_weak() -> None:
    service, not_snp = appraised().warnings
    assert "Google's attestation service" in service
    assert "AMD SEV without SNP" in not_snp
    assert appraised(token(**TDX), values=TDX_VALUES).warnings == (service,)
    assert "firmware only" in appraised(covers=Covers.FIRMWARE_ONLY).warnings[-1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tee", Tee.NITRO),
        ("signing_keys", ()),
        ("signing_keys", (b"short",)),
        ("audiences", ()),
        ("audiences", ("a\n",)),
        ("audiences", ("",)),
        ("maximum_age_seconds", -1),
        ("maximum_age_seconds", 86401),
        ("hwmodels", ()),
        ("hwmodels", (HardwareModel.GCP_AMD_SEV,) * 2),
        ("tcb_statuses", ("UpToDate",)),
        ("minimum_swversion", 10**9),
        ("support_attributes", ()),
        ("image_digests", ()),
        ("image_digests", (bytes(31),)),
        ("image_references", ()),
        ("cmd_override", ("\x1b",)),
        ("env_override", (("B", "1"), ("A", "1"))),
        ("env_override", (("A", "1"), ("A", "2"))),
        ("env_override", (("A", "\n"),)),
        ("project_ids", ()),
        ("zones", ()),
        ("service_accounts", ()),
        ("revocation", Revocation.CRL),
    ],
)
def test_bad_reference_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError) as refused:
        replace(VALUES, **{field: value})
    assert refused.value.field == field


def test_tdx_needs_accepted_statuses() -> None:
    with pytest.raises(ReferenceValuesError, match="^tcb_statuses: expected some if and only if GCP_INTEL_TDX"):
        replace(VALUES, hwmodels=(HardwareModel.GCP_INTEL_TDX,))


@pytest.mark.parametrize(
    ("evidence", "error", "field"),
    [
        (token(dbgstat="enabled"), EvidenceRefused, "dbgstat"),
        (token(secboot=False), EvidenceRefused, "secboot"),
        (token(hwmodel="GCP_SHIELDED_VM"), EvidenceRefused, "hwmodels"),
        (token(swversion=...), EvidenceRefused, "minimum_swversion"),
        (token(**{"submods/container/image_digest": ...}), EvidenceRefused, "image_digests"),
        (token(**{"submods/confidential_space/support_attributes": []}), EvidenceRefused, "support_attributes"),
        (token(**{"submods/container/cmd_override": ["\n"]}), EvidenceRefused, "cmd_override"),
        (replace(GOOD, endorsements=()), EvidenceUncheckable, "endorsements"),
        (token(aud=5), EvidenceMalformed, "aud"),
    ],
    ids=named,
)
def test_no_reference_values_are_made_for_what_none_accept(
    evidence: Evidence, error: type[AttestationError], field: str
) -> None:
    with pytest.raises(error) as refused:
        GOOGLE.reference(evidence)
    assert refused.value.field == field


def test_reference_keeps_what_the_next_image_has_too() -> None:
    assert VALUES.support_attributes == (SupportAttribute.STABLE, SupportAttribute.USABLE)
    latest = token(**{"submods/confidential_space/support_attributes": ["LATEST"]})
    assert GOOGLE.reference(latest).support_attributes == (SupportAttribute.LATEST,)
