"""Azure Attestation tokens under a key of our own: each claim that matters is compared, and named when it differs."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from attestation_cases.azure_maa import CLAIMS
from case_names import named
from synthetic_tokens import MAA_ISSUER, NOW, REPORT_DATA, azure_vm, maa_token, sev_snp_vm, sgx, tdx_vm

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
from attestation.claims import as_json
from attestation.families import FAMILIES
from attestation.terms import Covers, Revocation
from attestation.token.maa.reference_values import MaaReferenceValues
from attestation.token.maa.token import AttestationType
from attestation.token.nonce import token_nonce
from attestation.verdict import Verdict

FAMILY = FAMILIES[Tee.AZURE_MAA]
SNP = "x-ms-sevsnpvm-"
SGX = "x-ms-sgx-"
TEE = "x-ms-isolation-tee/"


def values_for(claims: Mapping[str, Any]) -> MaaReferenceValues:
    values = FAMILY.reference(maa_token(claims))
    assert isinstance(values, MaaReferenceValues)
    return values


VALUES = {name: values_for(claims()) for name, claims in CLAIMS.items()}


def appraised(
    kind: str, claims: Mapping[str, Any], report_data: bytes | None = REPORT_DATA, hardware: Any = None, **changes: Any
) -> Verdict:
    values = replace(VALUES[kind], **changes)
    if hardware is not None:
        values = replace(values, hardware=replace(values.hardware, **hardware))
    return FAMILY.authenticate(maa_token(claims), NOW).appraise(values, report_data)


@pytest.mark.parametrize(
    ("kind", "measurement", "covers", "lines"),
    [
        ("azurevm", "8962535933f5c4b4", Covers.FIRMWARE_ONLY, set(range(1, 23)) - {4}),
        ("sevsnpvm", "02c3b0d5bf1d256f", Covers.CODE, set(range(1, 23)) - {4, 21}),
        ("tdxvm", "5b5b5b5b", Covers.CODE, set(range(1, 23)) - {4, 16, 21}),
        ("sgx", "90909090", Covers.CODE, set(range(1, 23)) - {4, 15, 16, 21}),
    ],
)
def test_each_kind_is_accepted(kind: str, measurement: str, covers: Covers, lines: set[int]) -> None:
    verdict = appraised(kind, CLAIMS[kind]())
    assert verdict.measurement.hex().startswith(measurement)
    assert VALUES[kind].covers is covers
    assert {check.number for check in verdict.checks} == lines
    claims = as_json(verdict.claims)
    assert claims["debug"] is False
    assert claims["signer"] == MAA_ISSUER
    assert claims["attestation_type"] == kind


@pytest.mark.parametrize("kind", CLAIMS)
def test_another_key_issuer_or_policy_is_refused(kind: str) -> None:
    for change, error, field, number in (
        ({"signing_keys": (bytes(32),)}, EvidenceNotAuthentic, "signing_keys", 8),
        ({"issuers": (f"{MAA_ISSUER}/",)}, EvidenceNotAuthentic, "issuers", 9),
        ({"issuers": ("https://sharedweu.weu.attest.azure.net",)}, EvidenceNotAuthentic, "issuers", 9),
        ({"policy_hashes": (bytes(32),)}, EvidenceRefused, "policy_hashes", 11),
    ):
        with pytest.raises(error) as refused:
            appraised(kind, CLAIMS[kind](), **change)
        assert type(refused.value) is error
        assert (refused.value.field, refused.value.number) == (field, number)


SNP_REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({f"{SNP}is-debuggable": True}, "debug"),
    ({f"{SNP}migration-allowed": True}, "migration"),
    ({f"{SNP}vmpl": 1}, "hardware.vmpl"),
    ({f"{SNP}vmpl": 0xFFFFFFFF}, "hardware.vmpl"),
    ({f"{SNP}launchmeasurement": "00" * 48}, "hardware.measurements"),
    ({f"{SNP}hostdata": "11" * 32}, "hardware.host_data"),
    ({f"{SNP}guestsvn": 1}, "hardware.minimum_guest_svn"),
    ({f"{SNP}bootloader-svn": 2}, "hardware.minimum_bootloader_svn"),
    ({f"{SNP}snpfw-svn": 7}, "hardware.minimum_snpfw_svn"),
    ({f"{SNP}microcode-svn": 114}, "hardware.minimum_microcode_svn"),
    ({f"{SNP}idkeydigest": "00" * 48}, "hardware.id_key_digests"),
    ({f"{SNP}authorkeydigest": "11" * 48}, "hardware.author_key_digest"),
]


@pytest.mark.parametrize(("claims", "field"), SNP_REFUSALS, ids=named)
@pytest.mark.parametrize("kind", ["sevsnpvm", "azurevm"])
def test_an_snp_guest_is_refused_by_field(kind: str, claims: Mapping[str, Any], field: str) -> None:
    """As itself, and under an Azure VM."""
    inner = {(TEE if kind == "azurevm" else "") + name: value for name, value in claims.items()}
    with pytest.raises(EvidenceRefused) as refused:
        appraised(kind, CLAIMS[kind](**inner))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("kind", "claims", "field"),
    [
        ("sevsnpvm", {"x-ms-attestation-type": "azurevm"}, "x-ms-isolation-tee"),
        ("sevsnpvm", {"x-ms-compliance-status": "azure-compliant-uvm"}, "compliance_statuses"),
        ("sevsnpvm", {f"{SNP}reportdata": "00" * 64}, "report_data"),
        ("azurevm", {"x-ms-isolation-tee": ...}, "x-ms-isolation-tee"),
        ("azurevm", {f"{TEE}x-ms-attestation-type": "somethingelse"}, "x-ms-isolation-tee"),
        ("azurevm", {f"{TEE}x-ms-compliance-status": ...}, "compliance_statuses"),
        ("azurevm", {f"{TEE}x-ms-compliance-status": "azure-noncompliant"}, "compliance_statuses"),
        ("azurevm", {"secureboot": False}, "secureboot"),
        ("azurevm", {"secureboot": ...}, "secureboot"),
        ("azurevm", {f"{TEE}x-ms-runtime/vm-configuration/secure-boot": False}, "secureboot"),
        ("azurevm", {"x-ms-azurevm-bootdebug-enabled": True}, "debug"),
        ("azurevm", {"x-ms-azurevm-kerneldebug-enabled": True}, "debug"),
        ("azurevm", {"x-ms-azurevm-hypervisordebug-enabled": True}, "debug"),
        ("azurevm", {"x-ms-azurevm-testsigning-enabled": True}, "debug"),
        ("azurevm", {"x-ms-azurevm-flightsigning-enabled": True}, "debug"),
        ("azurevm", {"x-ms-azurevm-debuggersdisabled": False}, "debug"),
        ("azurevm", {"x-ms-azurevm-vmid": "another"}, "vm_ids"),
        ("azurevm", {"x-ms-azurevm-vmid": ...}, "vm_ids"),
        ("azurevm", {"x-ms-runtime/client-payload": ...}, "report_data"),
        ("azurevm", {"x-ms-runtime/client-payload/nonce": "QURFMDEwMQ=="}, "report_data"),
        ("tdxvm", {"tdx_td_attributes_debug": True}, "debug"),
        ("tdxvm", {"tdx_td_attributes": "0100001000000000"}, "debug"),
        ("tdxvm", {"dbgstat": "enabled"}, "debug"),
        ("tdxvm", {"tdx_td_attributes": "0000000000000000"}, "hardware.td_attributes"),
        ("tdxvm", {"tdx_xfam": "00" * 8}, "hardware.xfam"),
        ("tdxvm", {"tdx_mrsignerseam": "11" * 48}, "mrsignerseam"),
        ("tdxvm", {"tdx_seam_attributes": "0100000000000000"}, "seam_attributes"),
        ("tdxvm", {"tdx_mrtd": "00" * 48}, "hardware.mrtd"),
        ("tdxvm", {"tdx_rtmr0": "00" * 48}, "hardware.rtmr0"),
        ("tdxvm", {"tdx_rtmr1": "00" * 48}, "hardware.rtmr1"),
        ("tdxvm", {"tdx_rtmr2": "00" * 48}, "hardware.rtmr2"),
        ("tdxvm", {"tdx_rtmr3": "00" * 48}, "hardware.rtmr3"),
        ("tdxvm", {"tdx_mrseam": "00" * 48}, "hardware.mrseam"),
        ("tdxvm", {"tdx_mrconfigid": "11" * 48}, "hardware.mrconfigid"),
        ("tdxvm", {"tdx_mrowner": "11" * 48}, "hardware.mrowner"),
        ("tdxvm", {"tdx_mrownerconfig": "11" * 48}, "hardware.mrownerconfig"),
        ("tdxvm", {"attester_tcb_status": "OutOfDate"}, "hardware.tcb_statuses"),
        ("tdxvm", {"tdx_report_data": "00" * 64}, "report_data"),
        ("sgx", {f"{SGX}is-debuggable": True}, "debug"),
        ("sgx", {f"{SGX}mrenclave": "00" * 32}, "hardware.mr_enclaves"),
        ("sgx", {f"{SGX}mrsigner": "00" * 32}, "hardware.mr_signers"),
        ("sgx", {f"{SGX}product-id": 2}, "hardware.product_ids"),
        ("sgx", {f"{SGX}svn": 2}, "hardware.minimum_svn"),
        ("sgx", {f"{SGX}config-id": "11" * 64}, "hardware.config_id"),
        ("sgx", {f"{SGX}report-data": ...}, "report_data"),
        ("sgx", {f"{SGX}report-data": "00" * 64}, "report_data"),
    ],
    ids=named,
)
def test_an_authentic_token_is_refused_by_field(kind: str, claims: Mapping[str, Any], field: str) -> None:
    with pytest.raises(EvidenceRefused) as refused:
        appraised(kind, CLAIMS[kind](**claims))
    assert refused.value.field == field


def other_than(value: Any) -> Any:
    """Another value of the same form, which a token that the first one accepts doesn't have."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return (f"{value[0]} else",) if isinstance(value[0], str) else (other_than(value[0]),)


@pytest.mark.parametrize("kind", CLAIMS)
def test_each_reference_value_counts(kind: str) -> None:
    """One value at a time is changed; the refusal names it."""
    hardware = VALUES[kind].hardware
    for field in fields(hardware):
        if field.name == "smt_allowed":
            continue
        with pytest.raises(EvidenceRefused) as refused:
            appraised(kind, CLAIMS[kind](), hardware={field.name: other_than(getattr(hardware, field.name))})
        assert refused.value.field == f"hardware.{field.name}"
    changes = {"compliance_statuses": ("another",), "maximum_age_seconds": 0}
    if kind == "azurevm":
        changes["vm_ids"] = ("another",)
    for name, value in changes.items():
        values = replace(VALUES[kind], **{name: value})
        with pytest.raises(EvidenceRefused) as refused:
            FAMILY.authenticate(maa_token(CLAIMS[kind]()), NOW + timedelta(seconds=1)).appraise(values, REPORT_DATA)
        assert refused.value.field == name


def test_the_token_of_another_kind_of_hardware_is_refused() -> None:
    for kind in CLAIMS:
        for other in CLAIMS:
            if other != kind:
                with pytest.raises(EvidenceRefused, match="^(policy_hashes|attestation_type): "):
                    appraised(kind, CLAIMS[other]())
    snp_values = replace(VALUES["azurevm"], policy_hashes=(b"p" * 32,))
    tdx_below = tdx_vm(**{"x-ms-policy-hash": ...})
    policy = base64.urlsafe_b64encode(b"p" * 32).decode().rstrip("=")
    claims = azure_vm(**{"x-ms-isolation-tee": tdx_below, "x-ms-policy-hash": policy})
    with pytest.raises(EvidenceRefused, match="^hardware.type: expected sevsnpvm, found tdxvm"):
        FAMILY.authenticate(maa_token(claims), NOW).appraise(snp_values, None)


def test_what_may_differ_is_accepted() -> None:
    appraised("sevsnpvm", sev_snp_vm(**{f"{SNP}microcode-svn": 200, f"{SNP}guestsvn": 9}))
    appraised("sevsnpvm", sev_snp_vm(**{f"{SNP}smt-allowed": False}))
    appraised("sevsnpvm", sev_snp_vm(**{f"{SNP}idkeydigest": "11" * 48}), hardware={"id_key_digests": "any"})
    appraised("azurevm", azure_vm(**{"x-ms-azurevm-vmid": "another"}), vm_ids="any")
    appraised("tdxvm", tdx_vm(tdx_rtmr3="00" * 48), hardware={"rtmr3": "any", "mrseam": "any"})
    appraised("sgx", sgx(**{f"{SGX}svn": 9, f"{SGX}config-id": "00" * 64}))
    held = base64.urlsafe_b64encode(REPORT_DATA).decode().rstrip("=")
    appraised("sgx", sgx(**{f"{SGX}report-data": "11" * 64, f"{SGX}ehd": held}))
    with pytest.raises(EvidenceRefused, match="^hardware.smt_allowed: expected not allowed, found allowed"):
        appraised("sevsnpvm", sev_snp_vm(), hardware={"smt_allowed": False})


def test_a_vms_nonce_may_be_the_report_data_itself() -> None:
    for nonce in (REPORT_DATA, token_nonce(REPORT_DATA).encode(), REPORT_DATA.hex().encode()):
        claims = azure_vm(**{"x-ms-runtime/client-payload/nonce": base64.b64encode(nonce).decode()})
        appraised("azurevm", claims)
    public = azure_vm(**{"x-ms-runtime/client-payload/nonce": "QURFMDEwMQ=="})
    appraised("azurevm", public, report_data=b"ADE0101")
    assert as_json(FAMILY.describe(maa_token(public).report))["nonce"] == b"ADE0101".hex()


@pytest.mark.parametrize(
    ("make", "claims", "field"),
    [
        (sev_snp_vm, {"x-ms-policy-hash": ...}, "x-ms-policy-hash"),
        (sev_snp_vm, {"x-ms-policy-hash": "AAAA"}, "x-ms-policy-hash"),
        (sev_snp_vm, {f"{SNP}vmpl": ...}, f"{SNP}vmpl"),
        (sev_snp_vm, {f"{SNP}vmpl": "0"}, f"{SNP}vmpl"),
        (sev_snp_vm, {f"{SNP}is-debuggable": ...}, f"{SNP}is-debuggable"),
        (sev_snp_vm, {f"{SNP}is-debuggable": "false"}, f"{SNP}is-debuggable"),
        (sev_snp_vm, {f"{SNP}is-debuggable": 0}, f"{SNP}is-debuggable"),
        (sev_snp_vm, {f"{SNP}migration-allowed": ...}, f"{SNP}migration-allowed"),
        (sev_snp_vm, {f"{SNP}launchmeasurement": "00" * 47}, f"{SNP}launchmeasurement"),
        (sev_snp_vm, {f"{SNP}microcode-svn": 256}, f"{SNP}microcode-svn"),
        (sev_snp_vm, {f"{SNP}reportdata": ...}, f"{SNP}reportdata"),
        (azure_vm, {"x-ms-isolation-tee": []}, "x-ms-isolation-tee"),
        (azure_vm, {f"{TEE}{SNP}vmpl": ...}, f"x-ms-isolation-tee.{SNP}vmpl"),
        (azure_vm, {"x-ms-runtime/client-payload/nonce": "?"}, "x-ms-runtime.client-payload.nonce"),
        (azure_vm, {"secureboot": "true"}, "secureboot"),
        (tdx_vm, {"tdx_rtmr1": ...}, "tdx_rtmr1"),
        (tdx_vm, {"attester_tcb_status": ...}, "attester_tcb_status"),
        (sgx, {f"{SGX}mrenclave": "zz" * 32}, f"{SGX}mrenclave"),
        (sgx, {f"{SGX}svn": -1}, f"{SGX}svn"),
        (sgx, {f"{SGX}ehd": "a="}, f"{SGX}ehd"),
    ],
    ids=named,
)
def test_a_claim_in_another_form_is_malformed(
    make: Callable[..., dict[str, Any]], claims: Mapping[str, Any], field: str
) -> None:
    with pytest.raises(EvidenceMalformed) as refused:
        FAMILY.authenticate(maa_token(make(**claims)), NOW)
    assert refused.value.field == field


def test_the_version_of_a_token_must_be_known() -> None:
    for version in ("2.0", ...):
        with pytest.raises(EvidenceNotAuthentic, match="^x-ms-ver: expected 1.0"):
            FAMILY.authenticate(maa_token(sev_snp_vm(**{"x-ms-ver": version})), NOW)


def test_verdicts_warn_of_what_is_weak() -> None:
    service, milan, firmware = appraised("azurevm", azure_vm()).warnings
    assert "Microsoft's attestation service" in service
    assert "Milan" in milan
    assert "firmware only" in firmware
    assert appraised("sevsnpvm", sev_snp_vm()).warnings == (service, milan)
    assert appraised("sgx", sgx()).warnings == (service,)
    assert appraised("tdxvm", tdx_vm(), covers=Covers.FIRMWARE_ONLY).warnings == (service, firmware)


@pytest.mark.parametrize(
    ("kind", "hardware", "changes"),
    [
        ("azurevm", {}, {}),
        ("sevsnpvm", {}, {"compliance_statuses": ("azure-compliant-cvm",)}),
        ("sevsnpvm", {"host_data": (bytes(32),)}, {}),
        ("sevsnpvm", {"host_data": (b"h" * 32, bytes(32))}, {}),
        ("tdxvm", {"rtmr1": "any"}, {}),
        ("tdxvm", {"rtmr2": (bytes(48),)}, {}),
        ("tdxvm", {}, {"compliance_statuses": ("azure-compliant-cvm",)}),
        ("sgx", {"mr_enclaves": "any"}, {}),
    ],
)
def test_values_that_stop_short_of_the_code_do_not_cover_it(
    kind: str, hardware: Mapping[str, Any], changes: Mapping[str, Any]
) -> None:
    values = VALUES[kind]
    short = {"hardware": replace(values.hardware, **hardware), **changes}
    with pytest.raises(ReferenceValuesError, match='^covers: expected "firmware-only"'):
        replace(values, covers=Covers.CODE, **short)
    replace(values, covers=Covers.FIRMWARE_ONLY, **short)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("sgx", "tee", Tee.SGX),
        ("sgx", "signing_keys", ()),
        ("sgx", "signing_keys", (b"short",)),
        ("sgx", "issuers", ()),
        ("sgx", "issuers", ("http://example.org",)),
        ("sgx", "issuers", ("https://example.org\n",)),
        ("sgx", "policy_hashes", ()),
        ("sgx", "maximum_age_seconds", 86401),
        ("sgx", "attestation_type", AttestationType.SEV_SNP_VM),
        ("sgx", "vm_ids", "any"),
        ("azurevm", "vm_ids", "none"),
        ("azurevm", "vm_ids", ()),
        ("azurevm", "compliance_statuses", "none"),
        ("azurevm", "compliance_statuses", ()),
        ("sevsnpvm", "compliance_statuses", ()),
        ("sgx", "revocation", Revocation.MINIMUM_TCB),
    ],
)
def test_bad_reference_values_are_refused_by_name(kind: str, field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError) as refused:
        replace(VALUES[kind], **{field: value})
    assert refused.value.field == field


def test_an_azure_vm_is_no_enclave() -> None:
    with pytest.raises(ReferenceValuesError, match="^hardware.type: expected sevsnpvm or tdxvm"):
        replace(VALUES["azurevm"], hardware=VALUES["sgx"].hardware)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("sevsnpvm", "measurements", ()),
        ("sevsnpvm", "measurements", (bytes(32),)),
        ("sevsnpvm", "host_data", (bytes(48),)),
        ("sevsnpvm", "id_key_digests", ()),
        ("sevsnpvm", "author_key_digest", b""),
        ("sevsnpvm", "vmpl", 4),
        ("sevsnpvm", "minimum_guest_svn", -1),
        ("sevsnpvm", "minimum_microcode_svn", 256),
        ("tdxvm", "mrtd", ()),
        ("tdxvm", "rtmr0", (bytes(32),)),
        ("tdxvm", "mrconfigid", bytes(32)),
        ("tdxvm", "td_attributes", (b"\1" + bytes(7),)),
        ("tdxvm", "td_attributes", (b"\x80" + bytes(7),)),
        ("tdxvm", "xfam", ()),
        ("tdxvm", "tcb_statuses", ()),
        ("sgx", "mr_enclaves", ()),
        ("sgx", "mr_signers", (bytes(48),)),
        ("sgx", "product_ids", ()),
        ("sgx", "product_ids", (65536,)),
        ("sgx", "minimum_svn", 65536),
        ("sgx", "config_id", bytes(32)),
    ],
)
def test_bad_hardware_values_are_refused_by_name(kind: str, field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError) as refused:
        replace(VALUES[kind].hardware, **{field: value})
    assert refused.value.field == f"hardware.{field}"


def test_an_enclave_or_its_signer_must_be_named() -> None:
    with pytest.raises(ReferenceValuesError, match="^hardware.mr_enclaves"):
        replace(VALUES["sgx"].hardware, mr_enclaves="any", mr_signers="any")


@pytest.mark.parametrize(
    ("evidence", "error", "field"),
    [
        (maa_token(azure_vm(**{"x-ms-isolation-tee": ...})), EvidenceRefused, "x-ms-isolation-tee"),
        (maa_token(sev_snp_vm(**{f"{SNP}is-debuggable": True})), EvidenceRefused, "debug"),
        (maa_token(sev_snp_vm(**{f"{SNP}vmpl": 7})), EvidenceRefused, "hardware.vmpl"),
        (maa_token(azure_vm(**{f"{TEE}x-ms-compliance-status": ...})), EvidenceRefused, "compliance_statuses"),
        (replace(maa_token(sgx()), endorsements=()), EvidenceUncheckable, "endorsements"),
    ],
    ids=named,
)
def test_no_reference_values_are_made_for_what_none_accept(
    evidence: Evidence, error: type[AttestationError], field: str
) -> None:
    with pytest.raises(error) as refused:
        FAMILY.reference(evidence)
    assert refused.value.field == field
