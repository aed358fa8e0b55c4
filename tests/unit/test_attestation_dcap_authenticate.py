"""Each line of the checklist for quotes, failing alone: everything else is right, and signed by whom it should be.

The hierarchy is synthetic (`synthetic_dcap`), under a test root; the real root vouches for none of it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from synthetic_dcap import (
    CA,
    CA_KEY,
    ENCLAVE,
    FAMILIES,
    FMSPC,
    ISSUED,
    KSS_ENCLAVE,
    NEXT_UPDATE,
    NOW,
    OTHER_KEY,
    PCK,
    PCK_KEY,
    ROOT,
    ROOT_KEY,
    START,
    TCB_KEY,
    TCB_SIGNER,
    TD,
    TD_15,
    Platform,
    QuotingEnclave,
    certificate,
    evidence,
    lists,
    pem,
    revocation_list,
    signed_json,
    tcb_info,
)

from attestation import (
    AttestationError,
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    EvidenceWithdrawn,
    Tee,
)
from attestation.dcap import authenticate as floor
from attestation.dcap.certificates import Role
from attestation.dcap.enclave_report import EnclaveReport
from attestation.dcap.library import Opinion
from attestation.dcap.quote import CertificationType, Quote
from attestation.dcap.td_report import TdReport
from attestation.families import FAMILIES as REAL_FAMILIES

UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)
PARTIAL = (x509.DeltaCRLIndicator(1), True)


def authenticated(given: Evidence) -> floor.AuthenticQuote:
    return FAMILIES[given.tee].authenticate(given, NOW).quote


def refusal(given: Evidence) -> AttestationError:
    with pytest.raises(AttestationError) as refused:
        authenticated(given)
    return refused.value


def quote(body: TdReport | EnclaveReport = TD, **parts: object) -> Quote:
    return QuotingEnclave(**parts).quote(body)  # type: ignore[arg-type]


def with_chain(*chain: x509.Certificate) -> Evidence:
    return evidence(QuotingEnclave().quote(chain=chain))


def with_lists(change: Callable[[dict, dict], None] | None = None, **parts: object) -> Evidence:
    return evidence(given=lists(change=change, **parts))


@pytest.mark.parametrize("body", [TD, TD_15, ENCLAVE, KSS_ENCLAVE], ids=["td 1.0", "td 1.5", "enclave", "kss"])
def test_a_good_quote_is_authentic_under_its_root_and_under_no_other(body: TdReport | EnclaveReport) -> None:
    given = evidence(quote(body))
    found = authenticated(given)
    assert found.standing.status == "UpToDate"
    numbers = {check.number for check in found.checks}
    assert numbers == set(range(1, 15)) - ({13} if given.tee is Tee.SGX else set())
    with pytest.raises(EvidenceNotAuthentic, match="root: expected the pinned one, found another key"):
        REAL_FAMILIES[given.tee].authenticate(given, NOW)


def test_a_version_5_quote_may_hold_a_report_of_either_generation() -> None:
    for body in (TD, TD_15):
        assert authenticated(evidence(QuotingEnclave().quote(body, version=5))).quote.body == body


OTHER_ROOT = certificate(Role.ROOT, OTHER_KEY, Role.ROOT, OTHER_KEY, authority=True)
FORGED_ROOT = certificate(Role.ROOT, ROOT_KEY, Role.ROOT, OTHER_KEY, authority=True)
CHAINS = {
    "another root": ((PCK, CA, OTHER_ROOT), 2, "root"),
    "the root's key under another's signature": ((PCK, CA, FORGED_ROOT), 2, "signature of O=Strongroom"),
    "an authority by another root": (
        (PCK, certificate(Role.PLATFORM_CA, CA_KEY, Role.ROOT, OTHER_KEY, authority=True), ROOT),
        2,
        "signature of",
    ),
    "an authority that is none": (
        (PCK, certificate(Role.PLATFORM_CA, CA_KEY, Role.ROOT, ROOT_KEY), ROOT),
        2,
        "basic constraints of",
    ),
    "an authority that may not sign": (
        (PCK, certificate(Role.PLATFORM_CA, CA_KEY, Role.ROOT, ROOT_KEY, authority=True, usage=False), ROOT),
        2,
        "key usage of",
    ),
    "another kind of authority": (
        (PCK, certificate(Role.PROCESSOR_CA, CA_KEY, Role.ROOT, ROOT_KEY, authority=True), ROOT),
        2,
        "signature of",
    ),
    "a platform that is an authority": ((Platform().certificate(authority=True), CA, ROOT), 2, "basic constraints of"),
    "a platform that may not sign": ((Platform().certificate(usage=False), CA, ROOT), 2, "key usage of"),
    "two platforms": ((PCK, Platform().certificate(), CA, ROOT), 2, "certificates"),
    "a stranger": (
        (PCK, CA, certificate("somebody", OTHER_KEY, Role.ROOT, ROOT_KEY), ROOT),
        2,
        "certificates",
    ),
    "an expired platform": ((Platform().certificate(end=NOW - timedelta(1)), CA, ROOT), 3, "validity of"),
    "a platform of tomorrow": ((Platform().certificate(start=NOW + timedelta(1)), CA, ROOT), 3, "validity of"),
    "an expired authority": (
        (
            PCK,
            certificate(Role.PLATFORM_CA, CA_KEY, Role.ROOT, ROOT_KEY, authority=True, end=NOW - timedelta(1)),
            ROOT,
        ),
        3,
        "validity of",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_bad_chain_is_not_authentic(name: str) -> None:
    chain, number, field = CHAINS[name]
    refused = refusal(with_chain(*chain))
    assert isinstance(refused, EvidenceNotAuthentic)
    assert (refused.number, refused.field.startswith(field)) == (number, True)


def test_a_platform_certificate_by_another_key_is_not_authentic() -> None:
    forged = certificate(
        Role.PCK,
        PCK_KEY,
        Role.PLATFORM_CA,
        OTHER_KEY,
        more=(
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113741.1.13.1"), Platform().extension()), False),
        ),
    )
    refused = refusal(with_chain(forged, CA, ROOT))
    assert isinstance(refused, EvidenceNotAuthentic)
    assert refused.found == "does not verify"


def test_an_unknown_critical_extension_is_not_passed_over() -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113741.1.13.1"), Platform().extension())
    odd = Platform().certificate(more=((extension, False), UNKNOWN_CRITICAL))
    assert refusal(with_chain(odd, CA, ROOT)).field.startswith("critical extension of")


def test_a_platform_certificate_without_intels_extension_is_malformed() -> None:
    assert isinstance(refusal(with_chain(Platform().certificate(more=()), CA, ROOT)), EvidenceMalformed)


def test_an_authority_may_come_along_instead() -> None:
    alone = QuotingEnclave().quote(chain=(PCK,))
    refused = refusal(evidence(alone))
    assert isinstance(refused, EvidenceUncheckable)
    assert refused.field == "certificates"
    authenticated(evidence(alone, lists(more=(pem(CA),))))


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_quote_that_points_to_its_certificate_needs_it_beside(kind: int) -> None:
    pointing = replace(
        QuotingEnclave().quote(), certification_type=CertificationType(kind), certification_data=bytes(36)
    )
    assert isinstance(refusal(evidence(pointing)), EvidenceUncheckable)
    authenticated(evidence(pointing, lists(more=(pem(PCK, CA),))))
    stranger = certificate(
        Role.PCK,
        OTHER_KEY,
        Role.PLATFORM_CA,
        CA_KEY,
        more=(
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.840.113741.1.13.1"), Platform().extension()), False),
        ),
    )
    refused = refusal(evidence(pointing, lists(more=(pem(stranger, CA),))))
    assert (type(refused), refused.field) == (EvidenceNotAuthentic, "qe_report_signature")


QUOTES = {
    "another vendor": (QuotingEnclave(vendor=bytes(16)), 1, "qe_vendor_id"),
    "a report by another platform": (QuotingEnclave(pck_key=OTHER_KEY), 4, "qe_report_signature"),
    "a report for another key": (QuotingEnclave(bound=b"k" * 32 + bytes(32)), 4, "attestation_key"),
    "a report with more behind the digest": (QuotingEnclave(bound=b"\1" * 64), 4, "attestation_key"),
    "a quote by another key": (QuotingEnclave(signing_key=OTHER_KEY), 5, "signature"),
    "another attestation key": (
        replace(QuotingEnclave(), attestation_key=OTHER_KEY, bound=b"k" * 32 + bytes(32)),
        4,
        "attestation_key",
    ),
    "another MISCSELECT": (QuotingEnclave(report={"misc_select": b"\1\0\0\0"}), 12, "qe_report.misc_select"),
    "other attributes": (
        QuotingEnclave(report={"attributes": bytes.fromhex("0500000000000000")}),
        12,
        "qe_report.attributes",
    ),
    "a quoting enclave that can be debugged": (
        QuotingEnclave(report={"attributes": bytes.fromhex("1700000000000000")}),
        12,
        "qe_report.attributes",
    ),
    "another signer": (QuotingEnclave(report={"mr_signer": b"x" * 32}), 12, "qe_report.mr_signer"),
    "another product": (QuotingEnclave(report={"isv_prod_id": 9}), 12, "qe_report.isv_prod_id"),
}


@pytest.mark.parametrize("name", QUOTES)
@pytest.mark.parametrize("body", [TD_15, ENCLAVE], ids=["td", "enclave"])
def test_a_quote_by_somebody_else_is_not_authentic(name: str, body: TdReport | EnclaveReport) -> None:
    enclave, number, field = QUOTES[name]
    refused = refusal(evidence(enclave.quote(body)))
    assert (type(refused), refused.number, refused.field) == (EvidenceNotAuthentic, number, field)
    assert refused.passed or number == 1


def test_an_attestation_key_that_is_no_point_is_not_authentic() -> None:
    point = bytes(64)
    whole = QuotingEnclave().quote()
    bound = sha256(point + whole.qe_auth_data).digest() + bytes(32)
    forged = replace(QuotingEnclave(bound=bound).quote(), attestation_key=point)
    assert refusal(evidence(forged)).field == "attestation_key"


def test_a_quote_of_one_td_under_the_signature_of_another_is_not_authentic() -> None:
    other = QuotingEnclave().quote(replace(TD, mr_td=b"x" * 48))
    forged = replace(QuotingEnclave().quote(), signed=other.signed, body=other.body)
    assert refusal(evidence(forged)).field == "signature"


@pytest.mark.parametrize("first", [1, 2, 4, 0x80], ids=hex)
def test_a_td_that_can_be_debugged_is_refused_whatever_came_along(first: int) -> None:
    body = replace(TD, td_attributes=bytes([first]) + TD.td_attributes[1:])
    for given in (evidence(quote(body)), replace(evidence(quote(body)), endorsements=())):
        refused = refusal(given)
        assert (type(refused), refused.number, refused.field) == (EvidenceRefused, 6, "td_attributes")


def test_an_enclave_that_can_be_debugged_is_refused_whatever_came_along() -> None:
    body = replace(ENCLAVE, attributes=bytes.fromhex("0700000000000000"))
    refused = refusal(replace(evidence(quote(body)), endorsements=()))
    assert (type(refused), refused.number, refused.field) == (EvidenceRefused, 6, "attributes")


def test_bytes_behind_a_quote_are_zero_or_refused() -> None:
    assert authenticated(evidence(QuotingEnclave().quote(trailing=bytes(3000)))).quote.trailing == bytes(3000)
    refused = refusal(evidence(QuotingEnclave().quote(trailing=bytes(70) + b"\1")))
    assert (type(refused), refused.number, refused.field) == (EvidenceMalformed, 1, "trailing bytes")


def test_each_endorsement_is_asked_for() -> None:
    whole = evidence()
    names = ["tcb_info", "qe_identity", "certificates", "revocation_lists", "revocation_lists"]
    for index, name in enumerate(names):
        fewer = whole.endorsements[:index] + whole.endorsements[index + 1 :]
        refused = refusal(replace(whole, endorsements=fewer))
        assert (type(refused), refused.number, refused.field) == (EvidenceUncheckable, 7, name)


UNNEEDED = {
    "a stranger's certificate": pem(certificate("somebody", OTHER_KEY, Role.ROOT, ROOT_KEY)),
    "another platform's certificate": pem(Platform().certificate(serial=99)),
    "the other authority": pem(certificate(Role.PROCESSOR_CA, OTHER_KEY, Role.ROOT, ROOT_KEY, authority=True)),
    "a stranger's list": revocation_list("somebody", OTHER_KEY),
    "the other authority's list": revocation_list(Role.PROCESSOR_CA, OTHER_KEY),
    "a second list": revocation_list(),
}


@pytest.mark.parametrize("name", UNNEEDED)
def test_what_nobody_needs_is_refused_by_name(name: str) -> None:
    refused = refusal(with_lists(more=(UNNEEDED[name],)))
    assert (type(refused), refused.number) == (EvidenceNotAuthentic, 7)
    assert refused.field in ("certificates", "revocation_lists")


def test_the_same_thing_twice_is_one_thing() -> None:
    whole = evidence()
    authenticated(replace(whole, endorsements=whole.endorsements * 2 + (pem(PCK, CA, ROOT),)))


def test_two_different_lists_of_levels_are_refused() -> None:
    refused = refusal(with_lists(more=(signed_json("tcbInfo", {**tcb_info(), "tcbEvaluationDataNumber": 22}),)))
    assert (type(refused), refused.expected) == (EvidenceMalformed, "one tcbInfo")


SIGNERS = {
    "signed by another": certificate(Role.TCB_SIGNING, TCB_KEY, Role.ROOT, OTHER_KEY),
    "signed by the platforms' authority": certificate(Role.TCB_SIGNING, TCB_KEY, Role.PLATFORM_CA, CA_KEY),
    "an authority": certificate(Role.TCB_SIGNING, TCB_KEY, Role.ROOT, ROOT_KEY, authority=True),
    "expired": certificate(Role.TCB_SIGNING, TCB_KEY, Role.ROOT, ROOT_KEY, end=NOW - timedelta(1)),
    "of tomorrow": certificate(Role.TCB_SIGNING, TCB_KEY, Role.ROOT, ROOT_KEY, start=NOW + timedelta(1)),
}


@pytest.mark.parametrize("name", SIGNERS)
def test_a_bad_signer_of_lists_is_not_authentic(name: str) -> None:
    for signers in ((SIGNERS[name],), (TCB_SIGNER, SIGNERS[name])):
        refused = refusal(with_lists(signers=signers))
        assert (type(refused), refused.number) == (EvidenceNotAuthentic, 8)


REVOCATIONS = {
    "the platform": ("pck_crl", revocation_list(Role.PLATFORM_CA, CA_KEY, serials=(PCK.serial_number,))),
    "the authority": ("root_crl", revocation_list(serials=(1, CA.serial_number))),
    "the signer of lists": ("root_crl", revocation_list(serials=(TCB_SIGNER.serial_number,))),
    "the root": ("root_crl", revocation_list(serials=(ROOT.serial_number,))),
    "root list expired": ("root_crl", revocation_list(end=NOW - timedelta(1))),
    "root list of tomorrow": ("root_crl", revocation_list(start=NOW + timedelta(1))),
    "root list by another": ("root_crl", revocation_list(key=OTHER_KEY)),
    "root list in part": ("root_crl", revocation_list(more=(PARTIAL,))),
    "platforms' list expired": ("pck_crl", revocation_list(Role.PLATFORM_CA, CA_KEY, end=NOW - timedelta(1))),
    "platforms' list by another": ("pck_crl", revocation_list(Role.PLATFORM_CA, OTHER_KEY)),
    "platforms' list by the root": ("pck_crl", revocation_list(Role.PLATFORM_CA, ROOT_KEY)),
}


@pytest.mark.parametrize("name", REVOCATIONS)
def test_who_is_revoked_or_not_known_not_to_be_is_not_authentic(name: str) -> None:
    part, data = REVOCATIONS[name]
    refused = refusal(with_lists(**{part: data}))
    revoked = name.startswith("the ")
    assert (type(refused), refused.number) == (EvidenceWithdrawn if revoked else EvidenceNotAuthentic, 9)
    assert refused.found.startswith("revoked on ") is revoked


def test_a_list_that_revokes_others_revokes_nobody_here() -> None:
    authenticated(
        with_lists(
            root_crl=revocation_list(serials=(1, 2, 3)),
            pck_crl=revocation_list(Role.PLATFORM_CA, CA_KEY, serials=(CA.serial_number, ROOT.serial_number)),
        )
    )


@pytest.mark.parametrize("key", [OTHER_KEY, PCK_KEY, CA_KEY, ROOT_KEY], ids=["other", "pck", "authority", "root"])
def test_lists_signed_by_anybody_else_are_not_authentic(key: object) -> None:
    refused = refusal(with_lists(document_key=key))
    assert (type(refused), refused.number, refused.field) == (EvidenceNotAuthentic, 10, "tcb_info")


def test_only_the_exact_bytes_are_signed() -> None:
    """The same values, written with a space more."""
    whole = evidence()
    first = whole.endorsements[0].replace(b'"version":3', b'"version": 3')
    refused = refusal(replace(whole, endorsements=(first, *whole.endorsements[1:])))
    assert (type(refused), refused.number, refused.field) == (EvidenceNotAuthentic, 10, "tcb_info")
    around = whole.endorsements[0].replace(b',"signature":', b' ,\n "signature" : ')
    authenticated(replace(whole, endorsements=(around, *whole.endorsements[1:])))


def test_a_signature_may_stand_before_what_it_signs() -> None:
    whole = evidence()
    text = whole.endorsements[1].decode()
    inner, _, tail = text[1:-1].rpartition(',"signature":')
    swapped = f'{{"signature":{tail},{inner}}}'.encode()
    authenticated(replace(whole, endorsements=(whole.endorsements[0], swapped, *whole.endorsements[2:])))


@pytest.mark.parametrize("document", [0, 1], ids=["tcb_info", "qe_identity"])
@pytest.mark.parametrize("field", ["issueDate", "nextUpdate"])
def test_lists_out_of_their_time_are_not_authentic(document: int, field: str) -> None:
    time = NOW + timedelta(seconds=1) if field == "issueDate" else NOW - timedelta(seconds=1)

    def change(*documents: dict) -> None:
        documents[document][field] = f"{time:%Y-%m-%dT%H:%M:%SZ}"

    refused = refusal(with_lists(change))
    assert (type(refused), refused.number) == (EvidenceNotAuthentic, 10)
    assert refused.field == f"validity of {('tcb_info', 'qe_identity')[document]}"


def _set(document: int, **values: object) -> Callable[[dict, dict], None]:
    return lambda *documents: documents[document].update(values)


WRONG_LISTS = {
    "tcb_info.fmspc": (_set(0, fmspc="00" * 6), 11),
    "tcb_info.pce_id": (_set(0, pceId="0001"), 11),
    "tcb_evaluation_data_number": (_set(1, tcbEvaluationDataNumber=20), 11),
    "qe_identity.id": (_set(1, id="QE"), 11),
    "tdx_module": (_set(0, tdxModuleIdentities=[]), 13),
}


@pytest.mark.parametrize("field", WRONG_LISTS)
def test_lists_for_something_else_are_not_authentic(field: str) -> None:
    change, number = WRONG_LISTS[field]
    refused = refusal(with_lists(change))
    kind = EvidenceWithdrawn if field == "tdx_module" else EvidenceNotAuthentic
    assert (type(refused), refused.number, refused.field) == (kind, number, field)


def test_lists_of_the_other_tee_are_not_authentic() -> None:
    for body, other, field in ((TD, Tee.SGX, "tcb_info.id"), (ENCLAVE, Tee.TDX, "tcb_info.id")):
        refused = refusal(evidence(quote(body), lists(other)))
        assert (refused.number, refused.field) == (11, field)
    verifying = evidence(given=lists(change=_set(1, id="QVE")))
    assert refusal(verifying).field == "qe_identity.id"


def test_a_tdx_module_by_somebody_else_is_not_authentic() -> None:
    assert refusal(evidence(quote(replace(TD, mr_signer_seam=b"x" * 48)))).field == "mr_signer_seam"
    assert refusal(evidence(quote(replace(TD, seam_attributes=b"\1" + bytes(7))))).field == "seam_attributes"
    unlisted = replace(TD, tee_tcb_svn=bytes((6, 9, 3, *[0] * 13)))
    assert refusal(evidence(quote(unlisted))).field == "tdx_module"


def test_what_the_library_alone_refuses_is_refused() -> None:
    """It takes 32 bytes of the quoting enclave's data and no other number, which the format allows."""
    refused = refusal(evidence(QuotingEnclave(auth_data=bytes(20)).quote()))
    assert (type(refused), refused.number, refused.field) == (EvidenceNotAuthentic, 14, "dcap-qvl")
    assert "Invalid QE auth data length" in refused.found


@pytest.mark.parametrize(
    ("opinion", "error"),
    [
        (Opinion(status="OutOfDate", advisory_ids=(), objection=None), EvidenceUncheckable),
        (Opinion(status="UpToDate", advisory_ids=("INTEL-SA-00001",), objection=None), EvidenceUncheckable),
        (Opinion(status=None, advisory_ids=(), objection="it panicked"), EvidenceNotAuthentic),
        (Opinion(status=None, advisory_ids=(), objection="QE ATTRIBUTES mismatch"), EvidenceNotAuthentic),
    ],
)
def test_two_verifiers_have_to_agree(
    opinion: Opinion, error: type[AttestationError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "opinion_on", lambda given, now: opinion)
    refused = refusal(evidence())
    assert (type(refused), refused.number, refused.field) == (error, 14, "dcap-qvl")


def test_a_panic_in_the_library_is_an_objection(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicException("index out of range")

    monkeypatch.setattr("attestation.dcap.library.dcap_qvl.verify_with_root_ca", panic)
    assert refusal(evidence()).found == "it panicked"


def test_the_window_is_that_of_everything_together() -> None:
    family, given = FAMILIES[Tee.TDX], evidence()
    for inside in (ISSUED, NEXT_UPDATE - timedelta(seconds=1)):
        family.authenticate(given, inside)
    for outside in (ISSUED - timedelta(seconds=1), NEXT_UPDATE + timedelta(seconds=1), START - timedelta(1)):
        with pytest.raises(EvidenceNotAuthentic, match="validity of"):
            family.authenticate(given, outside)


def test_the_fmspc_is_read_in_either_case() -> None:
    authenticated(with_lists(_set(0, fmspc=FMSPC.hex().upper())))
    authenticated(with_lists(_set(0, fmspc=FMSPC.hex())))
