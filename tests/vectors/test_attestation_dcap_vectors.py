"""Real TDX and SGX quotes with real collateral: accepted at their time; refused after it, changed, for other values."""

from dataclasses import replace
from datetime import timedelta

import pytest
from attestation_cases.dcap import (
    DATA,
    Case,
    changed_values,
    good_cases,
    load_cases,
    read_endorsement,
    report_data_of,
    signed_ranges,
    values_for,
)
from attestation_cases.good_case import GoodCase

from attestation import (
    AttestationError,
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    Tee,
)
from attestation.appraisal import appraise, judge
from attestation.claims import as_json
from attestation.dcap.quote import Quote
from attestation.evidence import MAXIMUM_ENDORSEMENTS, MAXIMUM_EVIDENCE_BYTES
from attestation.families import FAMILIES
from attestation.recognise import recognise
from protocol.enrolment import Enrol, SiloKeys
from protocol.keys import SigningKey
from protocol.wire.methods import ENROLMENT_LIMIT_BYTES

CASES = load_cases()
GOOD = list(good_cases())
ACCEPTED = [case for case in CASES if case.facts["failure"] is None]
REFUSED = [case for case in CASES if case.facts["failure"] is not None]
WITH_WINDOW = [case for case in ACCEPTED if case.facts["not_after"] is not None]
KEY = SigningKey(bytes(32)).public.raw


def by_name(name: str) -> GoodCase:
    return next(case for case in GOOD if case.name.startswith(name))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_the_vectors_cover_versions_bodies_and_standings() -> None:
    quotes = [Quote.parse(case.quote) for case in ACCEPTED]
    assert {(quote.header.tee, quote.header.version) for quote in quotes} == {
        (Tee.SGX, 3),
        (Tee.TDX, 4),
        (Tee.TDX, 5),
    }
    assert {case.facts["status"] for case in ACCEPTED} == {
        "UpToDate",
        "OutOfDate",
        "TDRelaunchAdvised",
        "ConfigurationAndSWHardeningNeeded",
    }
    assert any(quote.trailing for quote in quotes)
    assert len(ACCEPTED) >= 16
    assert len(REFUSED) >= 28
    assert {case.facts["failure"] for case in REFUSED} == {
        "EvidenceMalformed",
        "EvidenceNotAuthentic",
        "EvidenceRefused",
        "EvidenceUncheckable",
    }


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_a_real_quote_is_accepted_at_its_time_with_the_known_standing(case: Case) -> None:
    report_data = report_data_of(case.quote)
    verdict = judge(case.evidence(), [values_for(case)], report_data, case.time)
    claims = as_json(verdict.claims)
    assert claims["tcb"]["status"] == case.facts["status"]  # type: ignore[index, call-overload]
    assert claims["tcb"]["advisory_ids"] == case.facts["advisory_ids"]  # type: ignore[index, call-overload]
    assert claims["debug"] is False
    assert verdict.report_data == report_data
    assert not verdict.simulated
    last = 23 if case.tee is Tee.TDX else 21
    missing = {13} if case.tee is Tee.SGX else set()
    assert sorted({check.number for check in verdict.checks} | missing) == list(range(1, last + 1))


@pytest.mark.parametrize("case", WITH_WINDOW, ids=lambda case: case.name)
def test_a_real_quote_is_authentic_inside_its_window_only(case: Case) -> None:
    family, evidence = FAMILIES[case.tee], case.evidence()
    family.authenticate(evidence, case.not_after - timedelta(seconds=1))
    for now in (case.time - timedelta(seconds=1), case.not_after + timedelta(seconds=1)):
        with pytest.raises(EvidenceNotAuthentic, match="validity of .* expected a time from"):
            family.authenticate(evidence, now)


@pytest.mark.parametrize("case", WITH_WINDOW, ids=lambda case: case.name)
def test_a_real_quote_is_refused_one_day_after_its_window(case: Case) -> None:
    with pytest.raises(EvidenceNotAuthentic, match="validity of"):
        judge(case.evidence(), [values_for(case)], None, case.not_after + timedelta(days=1))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_bad_vector_is_refused_for_its_reason(case: Case) -> None:
    good = by_name("tdx_quote with" if case.tee is Tee.TDX else "sgx_quote with")
    with pytest.raises(AttestationError) as refused:
        judge(case.evidence(), [good.values], None, case.time)
    if case.facts["why"] == "SEPT_VE_DISABLE is not set":
        # Out of date on top of it, as the vector's own verdict says; the attributes come after.
        statuses = replace(good.values.platform, tcb_statuses=("UpToDate", "OutOfDate"), fmspcs="any", ppids="any")
        accepting = replace(
            statuses, advisory_ids=tuple(case.facts["advisory_ids"]), minimum_tcb_evaluation_data_number=0
        )
        with pytest.raises(AttestationError) as refused:
            judge(case.evidence(), [replace(good.values, platform=accepting)], None, case.time)
    assert type(refused.value).__name__ == case.facts["failure"]
    assert refused.value.field == case.facts["field"]
    assert refused.value.number is not None or case.facts["failure"] == "EvidenceMalformed"


@pytest.mark.parametrize(
    "case",
    [case for case in REFUSED if case.facts["failure"] != "EvidenceNotAuthentic"],
    ids=lambda case: case.name,
)
def test_no_reference_values_are_made_for_a_bad_vector(case: Case) -> None:
    """They are made without verifying: what is wrong beyond that shows without, too."""
    with pytest.raises(AttestationError) as refused:
        FAMILIES[case.tee].reference(case.evidence())
    assert type(refused.value).__name__ == case.facts["failure"]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_each_reference_value_counts(case: GoodCase) -> None:
    """One value at a time is changed; the refusal names it."""
    authentic = FAMILIES[case.evidence.tee].authenticate(case.evidence, case.now)
    names = []
    for name, values in changed_values(case.values):
        with pytest.raises(EvidenceRefused) as refused:
            authentic.appraise(values, case.report_data)
        assert refused.value.field == name
        names.append(name)
    assert len(names) >= 15


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_it_commits_to_counts_in_every_byte(case: GoodCase) -> None:
    authentic = FAMILIES[case.evidence.tee].authenticate(case.evidence, case.now)
    expected = case.report_data or b"\1" + bytes(63)
    for index in range(0, 64, 9):
        with pytest.raises(EvidenceRefused) as refused:
            authentic.appraise(case.values, flipped(expected, 8 * index + index % 8))
        assert refused.value.field == "report_data"
    with pytest.raises(EvidenceRefused, match="report_data: expected a commitment, not zero bytes"):
        authentic.appraise(case.values, bytes(64))


@pytest.mark.parametrize("name", ["tdx_quote with", "quote_v5_sample.dat with tdx", "sgx_quote with", "quotev5.dat"])
def test_one_flipped_bit_of_what_is_signed_is_refused(name: str) -> None:
    """Sampled; what still parses fails before anything in it is believed."""
    case = by_name(name)
    family, report = FAMILIES[case.evidence.tee], case.evidence.report
    places = [byte for signed in signed_ranges(report) for byte in signed]
    for byte in places[::17]:
        changed = replace(case.evidence, report=flipped(report, 8 * byte + byte % 8))
        with pytest.raises(AttestationError) as refused:
            family.authenticate(changed, case.now)
        assert not isinstance(refused.value, EvidenceUncheckable)


@pytest.mark.parametrize("name", ["tdx_quote with", "sgx_quote with"])
def test_one_flipped_bit_of_the_bundle_is_refused(name: str) -> None:
    case = by_name(name)
    family, (bundle,) = FAMILIES[case.evidence.tee], case.evidence.endorsements
    for byte in range(0, len(bundle), 101):
        changed = replace(case.evidence, endorsements=(flipped(bundle, 8 * byte + byte % 8),))
        with pytest.raises(AttestationError):
            family.authenticate(changed, case.now)


def test_each_endorsement_is_needed() -> None:
    """With one left out, it is said what is missing; in any order, all of them will do."""
    case = by_name("cos-113")
    family, endorsements = FAMILIES[Tee.TDX], case.evidence.endorsements
    family.authenticate(replace(case.evidence, endorsements=endorsements[::-1]), case.now)
    family.authenticate(replace(case.evidence, endorsements=endorsements + endorsements), case.now)
    missing = []
    for index in range(len(endorsements)):
        fewer = endorsements[:index] + endorsements[index + 1 :]
        with pytest.raises(EvidenceUncheckable) as refused:
            family.authenticate(replace(case.evidence, endorsements=fewer), case.now)
        assert refused.value.number == 7
        missing.append(refused.value.field)
    assert missing == ["tcb_info", "qe_identity", "revocation_lists", "revocation_lists", "certificates"]


@pytest.mark.parametrize("case", WITH_WINDOW, ids=lambda case: case.name)
def test_a_quote_and_the_collateral_of_another_are_refused(case: Case) -> None:
    family = FAMILIES[case.tee]
    for other in WITH_WINDOW:
        if (
            not (other.time <= case.time <= other.not_after)
            or other.facts["endorsements"] == case.facts["endorsements"]
        ):
            continue
        evidence = replace(case.evidence(), endorsements=other.endorsements)
        try:
            found = family.authenticate(evidence, case.time)
        except AttestationError:
            continue
        # Another set for the same kind of platform, which then is of the same effect.
        platforms = {Quote.parse(item.quote).header.tee for item in (case, other)}
        assert len(platforms) == 1
        assert found.quote.standing.status == case.facts["status"]  # type: ignore[attr-defined]


def test_collateral_of_the_other_tee_is_refused() -> None:
    tdx, sgx = by_name("tdx_quote with"), by_name("sgx_quote with sgx_quote_collateral.json")
    now = max(tdx.now, sgx.now)
    for one, other in ((tdx, sgx), (sgx, tdx)):
        evidence = replace(one.evidence, endorsements=other.evidence.endorsements)
        with pytest.raises(EvidenceNotAuthentic):
            judge(evidence, [one.values], None, now)
        both = replace(one.evidence, endorsements=one.evidence.endorsements + _lists(other))
        with pytest.raises(EvidenceNotAuthentic):
            judge(both, [one.values], None, now)


def _lists(case: GoodCase) -> tuple[bytes, ...]:
    path = "sgx" if case.evidence.tee is Tee.SGX else "tdx"
    return (read_endorsement(f"Phala-Network-dcap-qvl/{path}_quote_collateral.json#pck_crl"),)


def test_evidence_of_one_tee_is_not_read_as_the_other() -> None:
    tdx = by_name("tdx_quote with")
    evidence = Evidence(tee=Tee.SGX, report=tdx.evidence.report, endorsements=tdx.evidence.endorsements)
    sgx = by_name("sgx_quote with")
    with pytest.raises(AttestationError, match="tee_type: expected SGX, found TDX"):
        judge(evidence, [sgx.values], None, tdx.now)
    with pytest.raises(EvidenceRefused, match="tee: expected sgx, found tdx"):
        judge(tdx.evidence, [sgx.values], None, tdx.now)


def test_a_quote_through_the_strict_entry() -> None:
    case = by_name("tdx_quote with")
    assert case.report_data is not None
    verdict = appraise(case.evidence, [case.values], case.report_data, case.now)
    assert verdict.product == "Intel TDX"
    assert verdict.warnings == ()


def test_an_accepted_standing_that_is_not_up_to_date_is_warned_about() -> None:
    for case in GOOD:
        verdict = judge(case.evidence, [case.values], case.report_data, case.now)
        outdated = any("Intel calls this platform" in warning for warning in verdict.warnings)
        assert outdated is (case.values.platform.tcb_statuses != ("UpToDate",))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_quote_is_recognised_and_described(case: Case) -> None:
    kinds = [tee for tee, family in FAMILIES.items() if family.recognises(case.quote)]
    if case.facts["why"] == "a TDREPORT, no quote":
        assert kinds == []
        return
    assert kinds == [case.tee]
    claims = as_json(FAMILIES[case.tee].describe(case.quote))
    body = Quote.parse(case.quote).body
    assert claims["report_data"] == body.report_data.hex()
    assert claims["debug"] is body.debug
    if "POLICY REJECT: debug" in case.facts["manifest"]:
        assert body.debug


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_quote_is_recognised_in_the_file_that_it_came_in(case: Case) -> None:
    """As bytes, hexadecimal or base64, behind Open Enclave's header, in a JSON object."""
    data = (DATA / case.facts["evidence"]).read_bytes()
    if case.facts["why"] == "a TDREPORT, no quote":
        with pytest.raises(EvidenceMalformed, match="evidence of .*tdx.*sgx"):
            recognise(data)
        return
    assert recognise(data) == Evidence(tee=case.tee, report=case.quote, endorsements=())


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_real_evidence_travels_and_is_kept_with_room_to_spare(case: GoodCase) -> None:
    """A quote with all its collateral, in the messages that carry it; Intel's lists may grow fourfold."""
    encoded = case.evidence.encode()
    assert 4 * len(encoded) < MAXIMUM_EVIDENCE_BYTES
    assert 4 * len(case.evidence.endorsements) <= 2 * MAXIMUM_ENDORSEMENTS
    enrol = Enrol(
        silo="cantone",
        agreement=bytes(32),
        boot_id=bytes(32),
        appliance=KEY,
        challenge=bytes(32),
        keys=SiloKeys(identity=KEY, sealing=bytes(1216), credential=bytes(91)),
        evidence=encoded + bytes(3 * len(encoded)),
    )
    assert Enrol.parse(enrol.encode()) == enrol
    assert len(enrol.encode()) < ENROLMENT_LIMIT_BYTES
    assert Evidence.parse(encoded) == case.evidence
