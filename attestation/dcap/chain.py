"""The certificates that a quote and its collateral need, chosen from what came and verified up to the pinned root.

Trusts the root that it is given. Raises `EvidenceUncheckable` for what is missing, and `EvidenceNotAuthentic` for
what does not verify and for what nobody needs: nothing of a peer's is passed over in silence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import subject, written
from attestation.checklist import Checklist
from attestation.dcap.certificates import (
    PCK_AUTHORITIES,
    Role,
    key_bytes,
    load_certificates,
    require_issued,
    require_list_of,
    require_no_authority,
    role_of,
)
from attestation.dcap.collateral import Collateral
from attestation.dcap.pck import PckIdentity
from attestation.dcap.quote import CertificationType, Quote
from attestation.dcap.roots import Root
from attestation.errors import EvidenceNotAuthentic, EvidenceUncheckable, EvidenceWithdrawn


@dataclass(frozen=True, slots=True, kw_only=True)
class PckChain:
    """The platform's certificate, and the authority between it and the root."""

    leaf: x509.Certificate
    authority: x509.Certificate
    identity: PckIdentity

    @property
    def authority_role(self) -> Role:
        """Which of Intel's two authorities it is."""
        return Role.PLATFORM_CA if role_of(self.authority) is Role.PLATFORM_CA else Role.PROCESSOR_CA


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationLists:
    """The root's list, and that of the authority over platform keys."""

    root: x509.CertificateRevocationList
    pck: x509.CertificateRevocationList


def pck_certificates(quote: Quote) -> list[x509.Certificate]:
    """The certificates in a quote; raises `EvidenceMalformed`."""
    if quote.certification_type not in (CertificationType.PCK_LEAF, CertificationType.PCK_CHAIN):
        return []
    return load_certificates(quote.certification_data, "certification data")


def choose_pck_chain(quote: Quote, collateral: Collateral, root: Root) -> PckChain:
    """The quote's own certificates, or those that came with it where it only points to them; not yet verified."""
    own = pck_certificates(quote)
    for certificate in (*own, *collateral.certificates):
        _require_pinned_if_root(certificate, root)
    for certificate in own:
        if role_of(certificate) not in (Role.PCK, Role.ROOT, *PCK_AUTHORITIES):
            raise _unneeded(certificate)
    leaf = _one(own, collateral.certificates, (Role.PCK,), "the platform's certificate (PCK)")
    authority = _one(own, collateral.certificates, PCK_AUTHORITIES, "the authority over platform keys")
    return PckChain(leaf=leaf, authority=authority, identity=PckIdentity.parse(leaf))


def verify_pck_chain(checks: Checklist, number: int, chain: PckChain, root: Root) -> None:
    """The root signs itself and the authority, the authority signs the platform's certificate."""
    require_issued(root.certificate, root.certificate)
    require_issued(chain.authority, root.certificate)
    require_issued(chain.leaf, chain.authority)
    require_no_authority(chain.leaf)
    checks.passed(number, "pck_chain", "ECDSA P-256 signatures up to the pinned root", subject(chain.authority))


def require_valid(checks: Checklist, number: int, certificates: Iterable[x509.Certificate], now: datetime) -> None:
    """Each is valid at `now`."""
    for certificate in certificates:
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        require_within(checks, number, f"validity of {subject(certificate)}", not_before, not_after, now)


def require_within(
    checks: Checklist, number: int, name: str, start: datetime, end: datetime | None, now: datetime
) -> None:
    """`now` lies between two times, both included; no end is none that was agreed to."""
    until = "(no end)" if end is None else end.isoformat()
    checks.require(
        end is not None and start <= now <= end,
        number,
        name,
        f"a time from {start.isoformat()} to {until}",
        now.isoformat(),
    )


def require_needed(collateral: Collateral, chain: PckChain, root: Root) -> None:
    """Raise `EvidenceNotAuthentic` for a certificate or list that has nothing to do with this quote."""
    chosen = (chain.leaf, chain.authority)
    for certificate in collateral.certificates:
        if certificate not in chosen and role_of(certificate) not in (Role.ROOT, Role.TCB_SIGNING):
            raise _unneeded(certificate)
    issuers = [revocation_list.issuer for revocation_list in collateral.revocation_lists]
    for issuer in issuers:
        if issuer not in (root.certificate.subject, chain.authority.subject) or issuers.count(issuer) > 1:
            raise EvidenceNotAuthentic(
                "revocation_lists",
                expected=f"one of {subject(root.certificate)} and one of {subject(chain.authority)}",
                found=written(issuer),
            )


def choose_lists(collateral: Collateral, chain: PckChain, root: Root) -> RevocationLists:
    """Both lists, not yet verified; raises `EvidenceUncheckable` if one is missing."""
    by_issuer = {item.issuer: item for item in collateral.revocation_lists}
    found = []
    for authority in (root.certificate, chain.authority):
        if authority.subject not in by_issuer:
            raise EvidenceUncheckable("revocation_lists", expected=f"one of {subject(authority)}", found="none")
        found.append(by_issuer[authority.subject])
    return RevocationLists(root=found[0], pck=found[1])


def choose_signers(collateral: Collateral) -> list[x509.Certificate]:
    """The certificates over the key that signs TCB information; raises `EvidenceUncheckable` if there is none."""
    signers = [certificate for certificate in collateral.certificates if role_of(certificate) is Role.TCB_SIGNING]
    if not signers:
        raise EvidenceUncheckable("certificates", expected=f"that of {Role.TCB_SIGNING}", found="none")
    return signers


def verify_signers(checks: Checklist, number: int, signers: list[x509.Certificate], root: Root, now: datetime) -> None:
    """The root signs each of them, and they are valid."""
    for signer in signers:
        require_issued(signer, root.certificate)
        require_no_authority(signer)
    checks.passed(number, "tcb_signing_chain", "ECDSA P-256 signatures up to the pinned root", Role.TCB_SIGNING)
    require_valid(checks, number, signers, now)


def verify_lists(
    checks: Checklist,
    number: int,
    lists: RevocationLists,
    chain: PckChain,
    signers: list[x509.Certificate],
    root: Root,
    now: datetime,
) -> None:
    """Both lists are signed and current, and none of our certificates is on them."""
    for name, revocation_list, authority, issued in (
        ("root_ca_crl", lists.root, root.certificate, (root.certificate, chain.authority, *signers)),
        ("pck_crl", lists.pck, chain.authority, (chain.leaf,)),
    ):
        require_list_of(revocation_list, authority)
        checks.passed(number, name, f"signed by {subject(authority)}", "verified")
        start, end = revocation_list.last_update_utc, revocation_list.next_update_utc
        require_within(checks, number, f"validity of {name}", start, end, now)
        for certificate in issued:
            entry = revocation_list.get_revoked_certificate_by_serial_number(certificate.serial_number)
            what, expected = f"revocation of {subject(certificate)}", f"not on {name}"
            if entry is not None:
                found = f"revoked on {entry.revocation_date_utc.isoformat()}"
                raise checks.failed(EvidenceWithdrawn(what, expected=expected, found=found), number)
            checks.passed(number, what, expected, "not on it")


def pem(*certificates: x509.Certificate) -> str:
    """Certificates in PEM, one after another."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates)


def _one(
    own: list[x509.Certificate], others: tuple[x509.Certificate, ...], roles: tuple[Role, ...], what: str
) -> x509.Certificate:
    for certificates in (own, others):
        found = [certificate for certificate in certificates if role_of(certificate) in roles]
        if len(found) == 1:
            return found[0]
        if found:
            raise EvidenceNotAuthentic("certificates", expected=f"{what}, once", found=str(len(found)))
    raise EvidenceUncheckable("certificates", expected=what, found="none")


def _require_pinned_if_root(certificate: x509.Certificate, root: Root) -> None:
    # Names prove nothing: it is the pinned one by its key. Intel issued it twice, with different dates.
    if certificate == root.certificate or role_of(certificate) is not Role.ROOT:
        return
    if key_bytes(certificate) != key_bytes(root.certificate):
        raise EvidenceNotAuthentic(
            "root", expected="the pinned one", found=f"another key in the name of {subject(certificate)}"
        )
    require_issued(certificate, root.certificate)


def _unneeded(certificate: x509.Certificate) -> EvidenceNotAuthentic:
    return EvidenceNotAuthentic(
        "certificates", expected="only those of this quote and its collateral", found=subject(certificate)
    )
