"""The middle floor: who signed this report? From a parsed report to one that a pinned root vouches for.

Trusts the root set that it is given and nothing that came with the evidence. Whether the report says what anybody
wants is the next floor's affair (`appraise`).

The checklist, by the numbers above each block:

 1. exactly one VCEK or VLEK certificate came along, revocation lists perhaps, and otherwise only certificates that we
    ship ourselves;
 2. a pinned intermediate (ASK for a VCEK, ASVK for a VLEK) has the name of its issuer;
 3. ARK signs itself, ARK signs the intermediate, the intermediate signs the leaf: RSASSA-PSS over RSA-4096 with
    SHA-384, MGF1 with SHA-384 and 48 bytes of salt, whatever the certificates propose;
 4. all three are valid at `now`;
 5. every revocation list that came along is signed by the same ARK in the same way, is valid at `now`, and lists
    neither ARK nor intermediate;
 6. the kind of key that the report names is that of the certificate;
 7. the report's ECDSA signature (P-384, SHA-384) verifies under the leaf's key.

The leaf is never looked for on a list: all leaves have the serial number 0, so that to find it there, or not to, would
mean nothing.

Sources: AMD 57230; AMD 56860 (report signing); RFC 5280 section 6.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.certificates import issuer, subject
from attestation.check import Check
from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic
from attestation.snp.certificates import EndorsementKey
from attestation.snp.endorsements import Endorsements
from attestation.snp.product import Product
from attestation.snp.report import Report, SignedReport
from attestation.snp.revocation import RevocationList, check_lists
from attestation.snp.roots import Chain, RootSet
from attestation.snp.signatures import verify_certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticReport:
    """A report whose signature a pinned root vouches for. Made by `authenticate` only.

    `product` is that of the chain; `simulated` that of the roots; `lists` the revocation lists that were checked.
    """

    report: Report
    key: EndorsementKey
    product: Product
    lists: tuple[RevocationList, ...]
    simulated: bool
    checks: tuple[Check, ...]


def authenticate(
    signed_report: SignedReport, endorsements: tuple[bytes, ...], roots: RootSet, now: datetime
) -> AuthenticReport:
    """Verify a report's signature and its key's chain up to `roots`, at the aware time `now`.

    Raises `EvidenceMalformed` for unreadable endorsements, `EvidenceUncheckable` if the signing key's certificate is
    missing, `EvidenceNotAuthentic` for everything that does not verify.
    """
    checks = Checklist(EvidenceNotAuthentic)
    report = signed_report.report

    # 1. one leaf; nothing but lists and what we ship beside it
    with checks.line(1):
        came = Endorsements.parse(endorsements)
        came.require_shipped(roots)
        key = came.key()
    checks.passed(1, "endorsements", "one VCEK or VLEK certificate", _what_came(key, came))

    # 2. the pinned issuer
    with checks.line(2):
        chain = chain_of(key, roots)
    checks.passed(2, "issuer", "a pinned intermediate", subject(chain.intermediate))

    # 3. the chain's signatures
    with checks.line(3):
        verify_certificate(chain.ark, chain.ark)
        verify_certificate(chain.intermediate, chain.ark)
        verify_certificate(key.certificate, chain.intermediate)
    checks.passed(3, "chain", "RSASSA-PSS SHA-384 signatures up to a pinned root", subject(chain.ark))

    # 4. dates
    for certificate in (chain.ark, chain.intermediate, key.certificate):
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        checks.require(
            not_before <= now <= not_after,
            4,
            f"validity of {subject(certificate)}",
            f"a time from {not_before.isoformat()} to {not_after.isoformat()}",
            now.isoformat(),
        )

    # 5. revocation lists, as far as there are any
    with checks.line(5):
        check_lists(checks, 5, came.lists, chain, now)
    if not came.lists:
        checks.passed(5, "revocation lists", "valid ones, if any came along", "none")

    # 6. the kind of signing key
    found = "none (unsigned)" if report.signing_key is None else report.signing_key.upper()
    checks.require(report.signing_key is key.kind, 6, "key_info.signing_key", key.kind.upper(), found)

    # 7. the report's signature
    with checks.line(7):
        _verify_report(signed_report, key)
    checks.passed(7, "signature", f"ECDSA P-384 under the {key.kind.upper()}", "verified")

    return AuthenticReport(
        report=report,
        key=key,
        product=chain.product,
        lists=came.lists,
        simulated=roots.simulated,
        checks=checks.made(),
    )


def _what_came(key: EndorsementKey, came: Endorsements) -> str:
    words = [f"{key.kind.upper()} of a {key.product}"]
    if came.lists:
        words.append(f"revocation lists: {len(came.lists)}")
    if came.others:
        words.append(f"pinned certificates: {len(came.others)}")
    if came.set_aside:
        words.append(f"set aside from the host's table: {', '.join(came.set_aside)}")
    return ", ".join(words)


def chain_of(key: EndorsementKey, roots: RootSet) -> Chain:
    """The pinned chain over a key of this kind, by the issuer's name; the signature is still to be verified."""
    chains = [chain for chain in roots.chains if chain.kind is key.kind]
    for chain in chains:
        if chain.intermediate.subject == key.certificate.issuer:
            return chain
    names = ", ".join(sorted(subject(chain.intermediate) for chain in chains))
    raise EvidenceNotAuthentic(
        f"issuer of the {key.kind.upper()}", expected=f"one of {names}", found=issuer(key.certificate)
    )


def _verify_report(signed_report: SignedReport, key: EndorsementKey) -> None:
    r, s = int.from_bytes(signed_report.r, "little"), int.from_bytes(signed_report.s, "little")
    try:
        key.public_key.verify(encode_dss_signature(r, s), signed_report.signed, ec.ECDSA(SHA384()))
    except InvalidSignature as error:
        raise EvidenceNotAuthentic(
            "report signature",
            expected=f"one by the key of the {key.kind.upper()} certificate",
            found="does not verify",
        ) from error
