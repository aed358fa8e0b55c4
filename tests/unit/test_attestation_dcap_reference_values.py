"""Reference values for TDX and SGX: nothing empty or contradictory, nothing that is refused anyway; and as TOML."""

from dataclasses import fields, replace

import pytest
from agreement_examples import good_agreement
from attestation_cases.dcap import changed_values, good_cases, report_data_of
from synthetic_dcap import (
    CA,
    ENCLAVE,
    FAMILIES,
    KSS_ENCLAVE,
    NOW,
    REPORT_DATA,
    ROOT,
    TD,
    TD_15,
    Platform,
    QuotingEnclave,
    evidence,
    lists,
)

from attestation import EvidenceMalformed, EvidenceRefused, EvidenceUncheckable, ReferenceValuesError, Tee
from attestation.claims import as_json
from attestation.dcap.enclave_report import EnclaveReport
from attestation.dcap.intel_json import TcbStatus
from attestation.dcap.td_report import TdReport
from attestation.reference_values import (
    ANY,
    Covers,
    Revocation,
    SgxReferenceValues,
    TdxReferenceValues,
)
from attestation.terms import FIRMWARE_ONLY_WARNING
from protocol.agreement import Agreement
from protocol.agreement_tees import read_tee, render_tee
from protocol.agreement_toml import AgreementError, fields_of, read_tables
from protocol.policy import read_policy

BODIES = {"td": TD, "td 1.5": TD_15, "enclave": ENCLAVE, "kss": KSS_ENCLAVE}


def values_of(body: TdReport | EnclaveReport) -> TdxReferenceValues | SgxReferenceValues:
    given = evidence(QuotingEnclave().quote(body))
    return FAMILIES[given.tee].reference(given)  # type: ignore[return-value]


TDX, SGX, KSS = values_of(TD), values_of(ENCLAVE), values_of(KSS_ENCLAVE)
PLATFORM = TDX.platform


@pytest.mark.parametrize("name", BODIES)
def test_reference_values_made_from_a_quote_accept_it_and_each_of_them_counts(name: str) -> None:
    given = evidence(QuotingEnclave().quote(BODIES[name]))
    values, authentic = values_of(BODIES[name]), FAMILIES[given.tee].authenticate(given, NOW)
    verdict = authentic.appraise(values, REPORT_DATA)
    assert verdict.report_data == REPORT_DATA
    assert verdict.warnings == ()
    seen = set()
    for field, changed in changed_values(values):
        with pytest.raises(EvidenceRefused) as refused:
            authentic.appraise(changed, REPORT_DATA)
        assert refused.value.field == field
        assert refused.value.number is not None
        assert refused.value.passed
        seen.add(field.partition(".")[0])
    names = {field.name for field in (*fields(values), *fields(values.platform))}
    unchanged = {"tee", "covers", "revocation", "platform", "advisory_ids"} | (
        {"kss"} if values.tee is Tee.SGX else set()
    )
    assert names - seen <= unchanged


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tcb_statuses", ()),
        ("tcb_statuses", (TcbStatus.UP_TO_DATE, TcbStatus.UP_TO_DATE)),
        ("tcb_statuses", (TcbStatus.UP_TO_DATE, TcbStatus.REVOKED)),
        ("tcb_statuses", (TcbStatus.NOT_SUPPORTED,)),
        ("advisory_ids", ("INTEL-SA-00615", "INTEL-SA-00615")),
        ("advisory_ids", ("all of them",)),
        ("minimum_tcb_evaluation_data_number", -1),
        ("minimum_tcb_evaluation_data_number", 2**32),
        ("fmspcs", ()),
        ("fmspcs", (b"short",)),
        ("fmspcs", "all"),
        ("ppids", (b"p" * 16, b"p" * 16)),
    ],
)
def test_bad_platforms_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ReferenceValuesError) as refused:
        replace(PLATFORM, **{field: value})
    assert refused.value.field == field


ZERO, ONE = bytes(48), b"1" * 48


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tee", Tee.SGX),
        ("revocation", Revocation.MINIMUM_TCB),
        ("revocation", Revocation.SHORT_LIVED),
        ("td_attributes", ()),
        ("td_attributes", (bytes(8),)),
        ("td_attributes", (bytes.fromhex("0100001000000000"),)),
        ("td_attributes", (bytes.fromhex("0000003000000000"),)),
        ("td_attributes", (bytes.fromhex("0000001001000000"),)),
        ("td_attributes", (bytes.fromhex("00000010"),)),
        ("xfam", ()),
        ("xfam", (bytes(7),)),
        ("mr_seam", ()),
        ("mr_td", ()),
        ("mr_td", (bytes(32),)),
        ("mr_td", (ONE, ONE)),
        ("rtmr0", ()),
        ("rtmr3", (b"",)),
        ("mr_config_id", b""),
        ("mr_owner", bytes(47)),
        ("mr_owner_config", bytes(49)),
        ("mr_service_td", b""),
        ("covers", Covers.CODE),
    ],
)
def test_bad_tdx_values_are_refused_by_name(field: str, value: object) -> None:
    start = replace(TDX, covers=Covers.FIRMWARE_ONLY, rtmr1=ANY) if field == "covers" else TDX
    with pytest.raises(ReferenceValuesError) as refused:
        replace(start, **{field: value})
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("rtmr1", "rtmr2", "reached"),
    [
        ((ONE,), (ONE,), True),
        ((ZERO,), (ONE,), True),
        ((ONE,), (ZERO,), True),
        ((ZERO,), (ZERO,), False),
        ((ZERO, ONE), (ONE, ZERO), False),
        (ANY, (ONE,), False),
        ((ONE,), ANY, False),
        (ANY, ANY, False),
    ],
)
def test_code_is_covered_only_where_what_was_loaded_is_pinned(rtmr1: object, rtmr2: object, reached: bool) -> None:
    firmware = replace(TDX, covers=Covers.FIRMWARE_ONLY, rtmr1=rtmr1, rtmr2=rtmr2)
    if reached:
        replace(firmware, covers=Covers.CODE)
        return
    with pytest.raises(ReferenceValuesError, match="rtmr1 and rtmr2, where firmware measures what it loads"):
        replace(firmware, covers=Covers.CODE)


def test_values_that_stop_at_the_firmware_are_warned_about() -> None:
    given = evidence(QuotingEnclave().quote(TD))
    firmware = replace(TDX, covers=Covers.FIRMWARE_ONLY, rtmr1=ANY, rtmr2=ANY)
    verdict = FAMILIES[Tee.TDX].authenticate(given, NOW).appraise(firmware, REPORT_DATA)
    assert FIRMWARE_ONLY_WARNING in verdict.warnings
    given = evidence(QuotingEnclave().quote(ENCLAVE))
    signer = replace(SGX, covers=Covers.FIRMWARE_ONLY, mr_enclave=ANY)
    verdict = FAMILIES[Tee.SGX].authenticate(given, NOW).appraise(signer, REPORT_DATA)
    assert FIRMWARE_ONLY_WARNING in verdict.warnings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tee", Tee.TDX),
        ("revocation", Revocation.SHORT_LIVED),
        ("covers", Covers.CODE),
        ("mr_enclave", ()),
        ("mr_enclave", (bytes(48),)),
        ("mr_signer", ()),
        ("isv_prod_id", 65536),
        ("isv_prod_id", True),
        ("minimum_isv_svn", -1),
        ("attributes", ()),
        ("attributes", (bytes(8),)),
        ("attributes", (bytes.fromhex("0700000000000000"),)),
        ("attributes", (bytes.fromhex("0100000000000000"),)),
        ("attributes", (bytes.fromhex("0400000000000000"),)),
        ("attributes", (bytes.fromhex("8500000000000000"),)),
        ("xfrm", ()),
        ("misc_select", (bytes(8),)),
    ],
)
def test_bad_sgx_values_are_refused_by_name(field: str, value: object) -> None:
    start = replace(SGX, covers=Covers.FIRMWARE_ONLY, mr_enclave=ANY) if field == "covers" else SGX
    with pytest.raises(ReferenceValuesError) as refused:
        replace(start, **{field: value})
    assert refused.value.field == field


def test_an_enclave_is_known_by_its_code_or_its_signer() -> None:
    with pytest.raises(ReferenceValuesError, match="mr_enclave: expected values here or for mr_signer"):
        replace(SGX, covers=Covers.FIRMWARE_ONLY, mr_enclave=ANY, mr_signer=ANY)
    replace(SGX, mr_signer=ANY)


def test_kss_and_its_attribute_go_together() -> None:
    assert isinstance(KSS, SgxReferenceValues)
    assert KSS.kss is not None
    with pytest.raises(ReferenceValuesError, match="attributes: expected KSS"):
        replace(KSS, kss=None)
    for field in ("config_id", "isv_ext_prod_id", "isv_family_id"):
        with pytest.raises(ReferenceValuesError, match=f"kss.{field}"):
            replace(KSS.kss, **{field: b""})
    with pytest.raises(ReferenceValuesError, match="kss.minimum_config_svn"):
        replace(KSS.kss, minimum_config_svn=65536)


def test_fields_of_kss_are_zero_where_it_is_not_used() -> None:
    """The processor wouldn't write such a report; the check is there because nothing else makes it."""
    for field, value in (("config_id", b"c" * 64), ("isv_ext_prod_id", b"x" * 16), ("config_svn", 1)):
        given = evidence(QuotingEnclave().quote(replace(ENCLAVE, **{field: value})))
        with pytest.raises(EvidenceRefused, match="kss"):
            FAMILIES[Tee.SGX].authenticate(given, NOW).appraise(SGX, REPORT_DATA)


def test_a_migratable_td_needs_who_migrates_it() -> None:
    migratable = bytes.fromhex("0000003000000000")
    body = replace(TD_15, td_attributes=migratable, mr_service_td=b"m" * 48)
    given = evidence(QuotingEnclave().quote(body))
    values = replace(TDX, td_attributes=(migratable,), mr_service_td=b"m" * 48)
    verdict = FAMILIES[Tee.TDX].authenticate(given, NOW).appraise(values, REPORT_DATA)
    assert any("service TDs are bound" in warning for warning in verdict.warnings)
    assert verdict.checks[-1].found != ("Invalid MR service TD", "TD migration is enabled")
    with pytest.raises(EvidenceRefused) as refused:
        FAMILIES[Tee.TDX].authenticate(given, NOW).appraise(TDX, REPORT_DATA)
    assert refused.value.field == "td_attributes"
    lonely = evidence(QuotingEnclave().quote(replace(body, mr_service_td=bytes(48))))
    with pytest.raises(EvidenceRefused, match="mr_service_td: expected who migrates it"):
        FAMILIES[Tee.TDX].reference(lonely)


@pytest.mark.parametrize("bit", [8, 16, 27, 28, 32, 62])
def test_attributes_that_nobody_knows_are_refused(bit: int) -> None:
    attributes = (int.from_bytes(TD.td_attributes, "little") ^ 1 << bit).to_bytes(8, "little")
    given = evidence(QuotingEnclave().quote(replace(TD, td_attributes=attributes)))
    with pytest.raises(EvidenceRefused) as refused:
        FAMILIES[Tee.TDX].authenticate(given, NOW).appraise(TDX, REPORT_DATA)
    assert refused.value.field == "td_attributes"
    with pytest.raises(EvidenceRefused, match="td_attributes"):
        FAMILIES[Tee.TDX].reference(given)


def test_a_report_without_service_tds_is_not_one_with_them() -> None:
    given = evidence(QuotingEnclave().quote(TD))
    with pytest.raises(EvidenceRefused) as refused:
        FAMILIES[Tee.TDX].authenticate(given, NOW).appraise(replace(TDX, mr_service_td=b"m" * 48), REPORT_DATA)
    assert refused.value.field == "mr_service_td"


@pytest.mark.parametrize("name", ["dynamic_platform", "cached_keys", "smt"])
def test_what_a_certificate_does_not_say_is_accepted_only_in_words(name: str) -> None:
    silent = Platform(flags=None).certificate()
    given = evidence(QuotingEnclave().quote(chain=(silent, CA, ROOT)))
    authentic = FAMILIES[Tee.TDX].authenticate(given, NOW)
    authentic.appraise(TDX, REPORT_DATA)
    with pytest.raises(EvidenceRefused) as refused:
        authentic.appraise(replace(TDX, platform=replace(PLATFORM, **{name: False})), REPORT_DATA)
    assert (refused.value.field, refused.value.found) == (name, "not said by the certificate")


def test_no_reference_values_are_made_of_what_nobody_accepts() -> None:
    family = FAMILIES[Tee.TDX]
    whole = evidence()
    with pytest.raises(EvidenceUncheckable, match="tcb_info"):
        family.reference(replace(whole, endorsements=()))
    with pytest.raises(EvidenceUncheckable, match="qe_identity"):
        family.reference(replace(whole, endorsements=whole.endorsements[:1]))
    with pytest.raises(EvidenceUncheckable, match="tcb_info: expected that of tdx on FMSPC"):
        family.reference(evidence(given=lists(change=lambda tcb_info, _: tcb_info.update(fmspc="00" * 6))))
    revoked = lists(change=lambda tcb_info, _: tcb_info["tcbLevels"][0].update(tcbStatus="Revoked"))
    with pytest.raises(EvidenceRefused, match="tcb_statuses: expected one that can be accepted, found Revoked"):
        family.reference(evidence(given=revoked))
    with pytest.raises(EvidenceMalformed, match="trailing bytes"):
        family.reference(evidence(QuotingEnclave().quote(trailing=b"\1")))


def test_what_a_quote_says_in_words() -> None:
    claims = as_json(FAMILIES[Tee.TDX].describe(evidence().report))
    assert claims["product"] == "Intel TDX"
    assert claims["measurements"]["mr_td"] == TD.mr_td.hex()  # type: ignore[index, call-overload]
    assert claims["debug"] is False
    enclave = FAMILIES[Tee.SGX].describe(evidence(QuotingEnclave().quote(KSS_ENCLAVE)).report)
    assert as_json(enclave)["kss"]["isv_family_id"] == KSS_ENCLAVE.isv_family_id.hex()  # type: ignore[index, call-overload]
    assert all(claim.words and "\n" not in claim.words for claim in enclave)


VALUES = {
    "tdx": TDX,
    "tdx, much of it any": replace(
        TDX,
        covers=Covers.FIRMWARE_ONLY,
        mr_seam=ANY,
        rtmr0=ANY,
        rtmr1=ANY,
        rtmr2=ANY,
        rtmr3=ANY,
        platform=replace(
            PLATFORM,
            tcb_statuses=(TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED),
            advisory_ids=("INTEL-SA-00615", "INTEL-SA-00289"),
            fmspcs=ANY,
            ppids=ANY,
            smt=False,
        ),
    ),
    "sgx": SGX,
    "sgx by its signer": replace(SGX, covers=Covers.FIRMWARE_ONLY, mr_enclave=ANY),
    "sgx with kss": KSS,
}


@pytest.mark.parametrize("name", VALUES)
def test_a_table_reads_back_what_it_says(name: str) -> None:
    for explained in (False, True):
        text = render_tee(VALUES[name], "appliance.tee", explained=explained)
        assert read_policy(text.encode(), "policy.toml") == (VALUES[name],)


@pytest.mark.parametrize("case", list(good_cases()), ids=lambda case: case.name)
def test_a_real_quotes_table_reads_back_what_it_says(case: object) -> None:
    text = render_tee(case.values, "silo.tee", explained=True)  # type: ignore[attr-defined]
    assert read_policy(text.encode(), "policy.toml") == (case.values,)  # type: ignore[attr-defined]
    assert report_data_of(case.evidence.report) == case.report_data  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["tdx", "sgx"])
def test_each_key_of_a_table_must_be_there(name: str) -> None:
    lines = render_tee(VALUES[name], "tee").splitlines()
    for line in lines[2:]:
        key = line.partition(" ")[0]
        text = "\n".join(other for other in lines if other != line)
        with pytest.raises(AgreementError, match=f" {key}: expected .*, found no such key"):
            read_policy(text.encode(), "policy.toml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("covers", '"everything"', "covers: expected one of"),
        ("revocation", '"short-lived"', "revocation: expected .*crl.*"),
        ("tcb_statuses", "[]", "tcb_statuses: expected a list of 1 to"),
        ("tcb_statuses", '["Revoked"]', "tcb_statuses: expected each item to be one of"),
        ("tcb_statuses", '"any"', "tcb_statuses: expected a list"),
        ("advisory_ids", "[7]", "advisory_ids: expected each item to be a name"),
        ("dynamic_platform", "1", "dynamic_platform: expected true or false"),
        ("fmspcs", '"all"', 'fmspcs: expected "any" or a list'),
        ("mr_td", '"any"', "mr_td: expected a list"),
        ("rtmr1", '"any"', "covers: expected"),
        ("mr_owner", '"none"', "mr_owner: expected 96 lower-case hexadecimal digits"),
        ("more", "1", "more: expected no such key"),
    ],
)
def test_a_bad_table_is_refused_by_key(key: str, value: str, message: str) -> None:
    lines = [line for line in render_tee(TDX, "tee").splitlines() if not line.startswith(f"{key} ")]
    text = "\n".join([*lines, f"{key} = {value}"])
    with pytest.raises(AgreementError, match=message):
        read_policy(text.encode(), "policy.toml")


def test_kss_is_a_table_or_none() -> None:
    lines = [line for line in render_tee(SGX, "tee").splitlines() if not line.startswith("kss ")]
    for value in ('"any"', "{}", '{ config_id = "00" }'):
        table = read_tables("\n".join([*lines, f"kss = {value}"]).encode(), "policy.toml")["tee"]
        with pytest.raises(AgreementError, match="kss"):
            read_tee(fields_of(table[0], "policy.toml:"), "policy.toml:", (Tee.SGX,))  # type: ignore[index]


@pytest.mark.parametrize("name", ["tdx", "sgx with kss"])
def test_an_agreement_may_name_them_for_the_appliance_and_for_silos(name: str) -> None:
    text = good_agreement(tee="sev-snp")
    for heading in ("appliance.tee", "silo.tee"):
        start = text.index(f"[[{heading}]]")
        end = text.index("\n[", start + 1)
        text = text[:start] + render_tee(VALUES[name], heading) + text[end:]
    found = Agreement.parse(text.encode(), "federation.toml")
    assert found.appliance == (VALUES[name],)
    assert found.silos[0].tees == (VALUES[name],)
