"""Evidence that was accepted once, by the lists of another day: Intel's and AMD's, and those who publish none."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta

import pytest
import synthetic_dcap as intel
from attestation_cases.dcap import good_cases
from synthetic_dcap import CA, CA_KEY, NEXT_UPDATE, NOW, PCK, REPORT_DATA, TCB_SIGNER, Lists, evidence, lists

from attestation import (
    AttestationError,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    EvidenceWithdrawn,
    RevocationUnpublished,
    Tee,
    Verdict,
    appraisal,
    appraise_again,
)
from attestation.dcap.certificates import Role
from attestation.evidence import Evidence
from attestation.families import FAMILIES
from attestation.reference_values import ReferenceValues

LATER = NOW + timedelta(days=90)
ISSUED = {"start": LATER - timedelta(days=1), "end": LATER + timedelta(days=20)}
DATES = {
    "issueDate": f"{LATER - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
    "nextUpdate": f"{LATER + timedelta(days=20):%Y-%m-%dT%H:%M:%SZ}",
}


@pytest.fixture(autouse=True)
def _synthetic_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appraisal, "FAMILIES", {**FAMILIES, **intel.FAMILIES})


def todays(change: Callable[[dict, dict], None] | None = None, tee: Tee = Tee.TDX, **parts: object) -> Lists:
    """What "Intel" publishes ninety days later."""

    def renew(info: dict, identity: dict) -> None:
        info |= DATES
        identity |= DATES
        if change is not None:
            change(info, identity)

    given = {
        "root_crl": intel.revocation_list(**ISSUED),
        "pck_crl": intel.revocation_list(Role.PLATFORM_CA, CA_KEY, **ISSUED),
        **parts,
    }
    return lists(tee, renew, **given)


def values(found: Evidence) -> ReferenceValues:
    return intel.FAMILIES[found.tee].reference(found)


def again(found: Evidence, *given: Lists, more: tuple[bytes, ...] = ()) -> Verdict:
    folder = tuple(item for part in given for item in part.endorsements())
    return appraise_again(found, (*folder, *more), [values(found)], REPORT_DATA, LATER)


def refused(found: Evidence, *given: Lists, more: tuple[bytes, ...] = ()) -> AttestationError:
    with pytest.raises(AttestationError) as caught:
        again(found, *given, more=more)
    return caught.value


def out_of_date(info: dict, _: dict) -> None:
    """A microcode update came out, and the platform hasn't got it."""
    newest = deepcopy(info["tcbLevels"][0])
    newest["tcb"]["pcesvn"] += 1
    info["tcbLevels"][0]["tcbStatus"] = "OutOfDate"
    info["tcbLevels"][0]["advisoryIDs"] = ["INTEL-SA-09999"]
    info["tcbLevels"].insert(0, newest)


def revoked(info: dict, _: dict) -> None:
    info["tcbLevels"][0]["tcbStatus"] = "Revoked"


def without_its_module(info: dict, _: dict) -> None:
    info["tdxModuleIdentities"] = [item for item in info["tdxModuleIdentities"] if item["id"] != "TDX_01"]


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_a_platform_that_is_as_good_as_it_was(tee: Tee) -> None:
    body = intel.TD if tee is Tee.TDX else intel.ENCLAVE
    found = evidence(intel.QuotingEnclave().quote(body))
    assert again(found, todays(tee=tee)).tee is tee


def test_the_lists_that_it_brought_are_of_no_use_by_now() -> None:
    assert LATER > NEXT_UPDATE
    assert type(refused(evidence(), lists())) is EvidenceNotAuthentic


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (todays(out_of_date), EvidenceRefused, "tcb_statuses: expected UpToDate, found OutOfDate"),
        (todays(revoked), EvidenceRefused, "found Revoked"),
        (todays(without_its_module), EvidenceWithdrawn, "tdx_module: expected a listed version"),
        (
            todays(pck_crl=intel.revocation_list(Role.PLATFORM_CA, CA_KEY, serials=(PCK.serial_number,), **ISSUED)),
            EvidenceWithdrawn,
            "revoked on 2027-01-29",
        ),
        (
            todays(root_crl=intel.revocation_list(serials=(CA.serial_number,), **ISSUED)),
            EvidenceWithdrawn,
            "not on root_ca_crl",
        ),
        (
            todays(root_crl=intel.revocation_list(serials=(TCB_SIGNER.serial_number,), **ISSUED)),
            EvidenceWithdrawn,
            "not on root_ca_crl",
        ),
    ],
    ids=["out of date", "revoked TCB", "module gone", "platform revoked", "authority revoked", "signer revoked"],
)
def test_a_platform_that_is_not(given: Lists, kind: type[AttestationError], words: str) -> None:
    error = refused(evidence(), given)
    assert type(error) is kind
    assert words in str(error)


def test_what_is_missing_could_not_be_checked() -> None:
    found, whole = evidence(), todays().endorsements()
    assert again(found, more=whole)
    for index in range(len(whole)):
        part = (*whole[:index], *whole[index + 1 :])
        assert type(refused(found, more=part)) is EvidenceUncheckable, index


def test_lists_of_other_platforms_and_vendors_are_passed_over() -> None:
    def other(info: dict, _: dict) -> None:
        info["fmspc"] = "00000000AAAA"

    from synthetic_snp import revocation_list as of_amd

    verdict = again(evidence(), todays(), todays(other), todays(tee=Tee.SGX), more=(of_amd(), b"{}", b"", b"junk"))
    assert verdict.tee is Tee.TDX
    assert type(refused(evidence(), todays(other))) is EvidenceUncheckable


def test_of_two_editions_the_newer_counts_and_of_two_days_the_current() -> None:
    def newer(info: dict, identity: dict) -> None:
        info["tcbEvaluationDataNumber"] = identity["tcbEvaluationDataNumber"] = 22
        out_of_date(info, identity)

    for given in ((todays(), todays(newer)), (todays(newer), todays())):
        assert type(refused(evidence(), *given)) is EvidenceRefused
    for given in ((todays(), lists()), (lists(), todays())):
        assert again(evidence(), *given).tee is Tee.TDX


def test_intels_own_quotes_find_nothing_in_an_empty_folder() -> None:
    for case in list(good_cases())[:3]:
        found = case.evidence
        with pytest.raises(EvidenceUncheckable):
            appraise_again(found, (), [values(found)], bytes(64), LATER)


@pytest.mark.parametrize("tee", [Tee.NITRO, Tee.CONFIDENTIAL_SPACE, Tee.AZURE_MAA])
def test_nobody_publishes_lists_for_these(tee: Tee) -> None:
    with pytest.raises(RevocationUnpublished, match="publishes none"):
        FAMILIES[tee].renewed(Evidence(tee=tee, report=b"x", endorsements=()), (), NOW)


@pytest.mark.parametrize("tee", [Tee.SEV_SNP, Tee.SIMULATED, Tee.TDX, Tee.SGX])
@pytest.mark.parametrize("report", [b"", b"x", bytes(2000)])
def test_evidence_that_is_none_stays_so(tee: Tee, report: bytes) -> None:
    with pytest.raises((EvidenceMalformed, EvidenceUncheckable)):
        FAMILIES[tee].renewed(Evidence(tee=tee, report=report, endorsements=()), (), NOW)
