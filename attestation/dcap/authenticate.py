"""The middle floor: who signed this quote, and how does its platform stand by Intel's lists?

From a parsed quote to one that the pinned root vouches for, with collateral that is complete, signed and current at
the time given. Trusts the root that it is given and nothing that came with the evidence. Whether the quote says what
anybody wants is the next floor's affair (`appraise_tdx`, `appraise_sgx`).

The checklist, by the numbers above each block:

 1. form: a quoting enclave of Intel's, and nothing but zero bytes behind the signature data;
 2. the pinned root signs the authority, that signs the platform's certificate (PCK), and each may do so;
 3. all three are valid at `now`;
 4. the PCK signs the quoting enclave's report, which commits to the attestation key;
 5. the attestation key signs the quote;
 6. the TD or enclave can't be debugged: nobody's reference values accept one that can;
 7. all endorsements are there (`EvidenceUncheckable` if not), and none that this quote has no use for;
 8. the root signs the signer of TCB information, valid at `now`;
 9. both revocation lists are signed and current, and none of these certificates is on them;
10. TCB information and QE identity are signed, byte for byte, and current at `now`;
11. both are for this platform: TEE, FMSPC, PCEID, and of one evaluation;
12. the quoting enclave is the one of the identity: MISCSELECT, ATTRIBUTES, MRSIGNER, ISVPRODID;
13. the TDX module is one that Intel lists, signed by its signer, without attributes;
14. `dcap-qvl` verifies all of it as well, and finds the same status and advisories.

The library's last check is one of policy (attributes, service TDs): where it objects to nothing but that, ours stands
alone, and the appraisal decides. Where the standing is one that nobody may accept, it isn't asked.

What can be said of a quote alone (1 to 6) comes first, so that a forgery is called one even without collateral.

Zero bytes behind a quote are accepted because Linux's first interface and several clouds hand out a padded buffer;
they are covered by no signature and read by nobody. Any other bytes there are refused.

Sources: Intel's SGX-TDX-DCAP-QuoteVerificationLibrary, checks 4.1.2.4.1 to 4.1.2.4.17; RFC 5280.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import subject
from attestation.check import Check
from attestation.checklist import Checklist
from attestation.dcap.certificates import public_key_of
from attestation.dcap.chain import (
    PckChain,
    choose_lists,
    choose_pck_chain,
    choose_signers,
    pem,
    require_needed,
    require_valid,
    require_within,
    verify_lists,
    verify_pck_chain,
    verify_signers,
)
from attestation.dcap.collateral import Collateral, Signed
from attestation.dcap.intel_json import NEVER_ACCEPTED
from attestation.dcap.library import LEFT_TO_THE_APPRAISAL, LibraryInput, opinion_on
from attestation.dcap.qe_identity import EnclaveId, QeIdentity, masked
from attestation.dcap.quote import INTEL_QE_VENDOR, Quote
from attestation.dcap.roots import Root
from attestation.dcap.tcb import TcbStanding, require_listed_module, standing_of
from attestation.dcap.tcb_info import TcbInfo
from attestation.dcap.td_report import TdReport
from attestation.errors import (
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
)
from attestation.tee import Tee

_IDENTITIES = {Tee.SGX: EnclaveId.QE, Tee.TDX: EnclaveId.TD_QE}
_UNCOMPRESSED = b"\x04"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticQuote:
    """A quote that the pinned root vouches for, and its platform's standing. Made by `authenticate` only."""

    quote: Quote
    chain: PckChain
    tcb_info: TcbInfo
    qe_identity: QeIdentity
    standing: TcbStanding
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    """Both of Intel's documents, not yet verified."""

    tcb_info: Signed[TcbInfo]
    qe_identity: Signed[QeIdentity]


def authenticate(quote: Quote, endorsements: tuple[bytes, ...], root: Root, now: datetime) -> AuthenticQuote:
    """Verify a quote and its collateral up to `root`, at the aware time `now`.

    Raises `EvidenceMalformed` for unreadable endorsements, `EvidenceUncheckable` if one is missing,
    `EvidenceNotAuthentic` for what does not verify, and `EvidenceRefused` for what can be debugged.
    """
    collateral = Collateral.gather(endorsements)
    checks = Checklist(EvidenceNotAuthentic)
    chain = _authenticate_quote(checks, quote, collateral, root, now)

    # 7. complete, and nothing else
    with checks.line(7):
        require_needed(collateral, chain, root)
        documents, signers = _documents(collateral), choose_signers(collateral)
        lists = choose_lists(collateral, chain, root)
    checks.passed(7, "endorsements", "all that is needed, and nothing else", f"{len(endorsements)} of them")

    # 8. whose signature counts on TCB information
    with checks.line(8):
        verify_signers(checks, 8, signers, root, now)

    # 9. nobody was revoked
    with checks.line(9):
        verify_lists(checks, 9, lists, chain, signers, root, now)

    # 10. what Intel says
    tcb_signer = _check_document(checks, "tcb_info", documents.tcb_info, signers, now)
    qe_signer = _check_document(checks, "qe_identity", documents.qe_identity, signers, now)
    tcb_info, identity = documents.tcb_info.content, documents.qe_identity.content
    _check_platform(checks, quote, chain, tcb_info, identity)
    _check_quoting_enclave(checks, quote, identity)

    # 13. the TDX module
    with checks.line(13):
        if isinstance(quote.body, TdReport):
            require_listed_module(quote.body, tcb_info)
            checks.passed(13, "tdx_module", "a listed version by its signer", f"version {quote.body.tee_tcb_svn[1]}")
        standing = standing_of(quote, chain.identity, tcb_info, identity)

    given = LibraryInput(
        quote=quote.encode(),
        pck_chain=pem(chain.leaf, chain.authority, root.certificate),
        pck_crl_issuer_chain=pem(chain.authority, root.certificate),
        root_ca_crl=lists.root.public_bytes(Encoding.DER),
        pck_crl=lists.pck.public_bytes(Encoding.DER),
        tcb_info=documents.tcb_info,
        tcb_info_chain=pem(tcb_signer, root.certificate),
        qe_identity=documents.qe_identity,
        qe_identity_chain=pem(qe_signer, root.certificate),
        root=root.der,
    )
    _check_opinion(checks, given, standing, now)
    return AuthenticQuote(
        quote=quote, chain=chain, tcb_info=tcb_info, qe_identity=identity, standing=standing, checks=checks.made()
    )


def _authenticate_quote(checks: Checklist, quote: Quote, collateral: Collateral, root: Root, now: datetime) -> PckChain:
    """What can be said of a quote alone."""
    # 1. form
    vendor, trailing = quote.header.qe_vendor_id, quote.trailing
    checks.require(vendor == INTEL_QE_VENDOR, 1, "qe_vendor_id", f"{INTEL_QE_VENDOR.hex()} (Intel)", vendor.hex())
    if any(trailing):
        extra = f"{len(trailing)}: {trailing.hex()[:64]}"
        raise checks.failed(EvidenceMalformed("trailing bytes", expected="none, or zero bytes", found=extra), 1)
    checks.passed(1, "trailing bytes", "none, or zero bytes", f"{len(trailing)}, all zero" if trailing else "none")

    # 2. and 3. the platform's certificate
    with checks.line(2):
        chain = choose_pck_chain(quote, collateral, root)
        verify_pck_chain(checks, 2, chain, root)
    require_valid(checks, 3, (root.certificate, chain.authority, chain.leaf), now)

    # 4. the quoting enclave and its key
    with checks.line(4):
        _require_signed(
            "qe_report_signature", public_key_of(chain.leaf), quote.qe_report_signed, quote.qe_report_signature
        )
    checks.passed(4, "qe_report_signature", "one by the platform's key (PCK)", "verified")
    bound = sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    found = quote.qe_report.report_data
    checks.require(compare_digest(found, bound), 4, "attestation_key", f"one that hashes to {found.hex()}", bound.hex())

    # 5. the quote
    with checks.line(5):
        _require_signed("signature", _attestation_key(quote), quote.signed, quote.signature)
    checks.passed(5, "signature", "one by the attestation key", "verified")

    # 6. nobody looks inside
    body = quote.body
    name, value = (
        ("td_attributes", body.td_attributes) if isinstance(body, TdReport) else ("attributes", body.attributes)
    )
    if body.debug:
        raise checks.failed(EvidenceRefused(name, expected="DEBUG not set", found=value.hex()), 6)
    checks.passed(6, name, "DEBUG not set", value.hex())
    return chain


def _documents(collateral: Collateral) -> _Documents:
    if collateral.tcb_info is None:
        raise EvidenceUncheckable("tcb_info", expected="one among the endorsements", found="none")
    if collateral.qe_identity is None:
        raise EvidenceUncheckable("qe_identity", expected="one among the endorsements", found="none")
    return _Documents(tcb_info=collateral.tcb_info, qe_identity=collateral.qe_identity)


def _check_document(
    checks: Checklist,
    name: str,
    document: Signed[TcbInfo] | Signed[QeIdentity],
    signers: list[x509.Certificate],
    now: datetime,
) -> x509.Certificate:
    """Whose signature it carries, of the verified signers."""
    # 10. signature and dates
    found = [item for item in signers if verifies(public_key_of(item), document.data, document.signature)]
    checks.require(
        bool(found), 10, name, f"signed by {subject(signers[0])}", "verified" if found else "does not verify"
    )
    content = document.content
    require_within(checks, 10, f"validity of {name}", content.issue_date, content.next_update, now)
    return found[0]


def _check_platform(checks: Checklist, quote: Quote, chain: PckChain, tcb_info: TcbInfo, identity: QeIdentity) -> None:
    # 11. for this platform, of one evaluation
    tee, pck = quote.header.tee, chain.identity
    checks.require(tcb_info.tee is tee, 11, "tcb_info.id", tee.upper(), tcb_info.tee.upper())
    checks.require(identity.id is _IDENTITIES[tee], 11, "qe_identity.id", _IDENTITIES[tee], identity.id)
    checks.require(tcb_info.fmspc == pck.fmspc, 11, "tcb_info.fmspc", pck.fmspc.hex(), tcb_info.fmspc.hex())
    checks.require(tcb_info.pce_id == pck.pce_id, 11, "tcb_info.pce_id", pck.pce_id.hex(), tcb_info.pce_id.hex())
    numbers = tcb_info.tcb_evaluation_data_number, identity.tcb_evaluation_data_number
    checks.require(
        numbers[0] == numbers[1],
        11,
        "tcb_evaluation_data_number",
        f"{numbers[0]} in both, as in tcb_info",
        f"{numbers[1]} in qe_identity",
    )


def _check_quoting_enclave(checks: Checklist, quote: Quote, identity: QeIdentity) -> None:
    # 12. which enclave wrote this quote
    report = quote.qe_report
    for name, value, wanted, mask in (
        ("misc_select", report.misc_select, identity.misc_select, identity.misc_select_mask),
        ("attributes", report.attributes + report.xfrm, identity.attributes, identity.attributes_mask),
    ):
        expected = f"{wanted.hex()} under {mask.hex()}"
        checks.require(masked(value, mask) == wanted, 12, f"qe_report.{name}", expected, value.hex())
    checks.require(not report.debug, 12, "qe_report.attributes", "DEBUG not set", report.attributes.hex())
    signer, product = report.mr_signer, report.isv_prod_id
    checks.require(signer == identity.mr_signer, 12, "qe_report.mr_signer", identity.mr_signer.hex(), signer.hex())
    checks.require(
        product == identity.isv_prod_id, 12, "qe_report.isv_prod_id", str(identity.isv_prod_id), str(product)
    )


def _check_opinion(checks: Checklist, given: LibraryInput, standing: TcbStanding, now: datetime) -> None:
    # 14. a second opinion, where ours is not that nobody may accept it
    ours = f"{standing.status} {list(standing.advisory_ids)}"
    if standing.status in NEVER_ACCEPTED:
        return
    opinion = opinion_on(given, now)
    if opinion.objection in LEFT_TO_THE_APPRAISAL:
        checks.passed(14, "dcap-qvl", "no objection but to what is appraised below", str(opinion.objection))
        return
    if opinion.objection is not None:
        found = opinion.objection[:200]
        raise checks.failed(EvidenceNotAuthentic("dcap-qvl", expected="no objection", found=found), 14)
    theirs = f"{opinion.status} {list(opinion.advisory_ids)}"
    if (opinion.status, opinion.advisory_ids) != (standing.status, standing.advisory_ids):
        raise checks.failed(EvidenceUncheckable("dcap-qvl", expected=f"our own finding, {ours}", found=theirs), 14)
    checks.passed(14, "dcap-qvl", f"our own finding, {ours}", theirs)


def _attestation_key(quote: Quote) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _UNCOMPRESSED + quote.attestation_key)
    except ValueError as error:
        raise EvidenceNotAuthentic(
            "attestation_key", expected="a point on P-256", found=quote.attestation_key.hex()
        ) from error


def _require_signed(field: str, key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> None:
    if not verifies(key, data, signature):
        raise EvidenceNotAuthentic(field, expected="one that verifies", found="does not verify")


def verifies(key: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> bool:
    """Whether 64 bytes (r ‖ s, big-endian) are an ECDSA signature with SHA-256."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
