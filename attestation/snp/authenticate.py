"""The middle floor: who signed this report? From a parsed report to one that a pinned root vouches for.

Trusts the root set that it is given and nothing that came with the evidence. Whether the report says what anybody
wants is the next floor's affair (`appraise`).

The checklist, by the numbers above each block:

 1. exactly one VCEK or VLEK certificate came along, and otherwise only certificates that we ship ourselves;
 2. a pinned intermediate (ASK for a VCEK, ASVK for a VLEK) has the name of its issuer;
 3. ARK signs itself, ARK signs the intermediate, the intermediate signs the leaf: RSASSA-PSS over RSA-4096 with
    SHA-384, MGF1 with SHA-384 and 48 bytes of salt, whatever the certificates propose;
 4. all three are valid at `now`;
 5. the kind of key that the report names is that of the certificate;
 6. the report's ECDSA signature (P-384, SHA-384) verifies under the leaf's key.

Sources: AMD 57230; AMD 56860 (report signing); RFC 5280 section 6; RFC 4055 section 3.1 for the PSS parameters.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import issuer, load_certificate, subject
from attestation.check import Check
from attestation.checklist import Checklist
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic, EvidenceUncheckable
from attestation.snp.certificates import EndorsementKey, kind_of
from attestation.snp.product import Product
from attestation.snp.report import Report, SignedReport
from attestation.snp.roots import RootSet

RSA_BITS: Final = 4096
SALT_BYTES: Final = 48
# AlgorithmIdentifier of RSASSA-PSS with exactly these parameters, in the two spellings that AMD's service writes:
# with the default trailerField written out (until 2024), and without it.
PSS_SHA384_SALT48: Final = (
    bytes.fromhex(
        "304606092a864886f70d01010a3039a00f300d06096086480165030402020500a11c301a06092a864886f70d010108"
        "300d06096086480165030402020500a203020130a303020101"
    ),
    bytes.fromhex(
        "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108"
        "300d06096086480165030402020500a203020130"
    ),
)
_BIT_STRING_OF_512_BYTES = bytes.fromhex("0382020100")
_SEQUENCE_HEADER_BYTES = 4  # of everything between 256 and 65,535 bytes long
_VERSION_3 = bytes.fromhex("a003020102")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticReport:
    """A report whose signature a pinned root vouches for. Made by `authenticate` only.

    `product` is that of the chain; `simulated` that of the roots.
    """

    report: Report
    key: EndorsementKey
    product: Product
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

    # 1. one leaf; nothing but what we ship beside it
    leaf = _leaf(endorsements, roots)
    key = EndorsementKey.parse(leaf)
    checks.passed(1, "endorsements", "one VCEK or VLEK certificate", f"{key.kind.upper()} of a {key.product}")

    # 2. the pinned issuer
    chain = next((chain for chain in roots.chains if chain.intermediate.subject == leaf.issuer), None)
    names = ", ".join(sorted({subject(chain.intermediate) for chain in roots.chains if chain.kind is key.kind}))
    if chain is None or chain.kind is not key.kind:
        raise EvidenceNotAuthentic(f"issuer of the {key.kind.upper()}", expected=f"one of {names}", found=issuer(leaf))
    checks.passed(2, "issuer", "a pinned intermediate", subject(chain.intermediate))

    # 3. the chain's signatures
    _verify_issued(chain.ark, chain.ark)
    _verify_issued(chain.intermediate, chain.ark)
    _verify_issued(leaf, chain.intermediate)
    checks.passed(3, "chain", "RSASSA-PSS SHA-384 signatures up to a pinned root", subject(chain.ark))

    # 4. dates
    for certificate in (chain.ark, chain.intermediate, leaf):
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        checks.require(
            not_before <= now <= not_after,
            4,
            f"validity of {subject(certificate)}",
            f"a time from {not_before.isoformat()} to {not_after.isoformat()}",
            now.isoformat(),
        )

    # 5. the kind of signing key
    found = "none (unsigned)" if report.signing_key is None else report.signing_key.upper()
    checks.require(report.signing_key is key.kind, 5, "key_info.signing_key", key.kind.upper(), found)

    # 6. the report's signature
    _verify_report(signed_report, key)
    checks.passed(6, "signature", f"ECDSA P-384 under the {key.kind.upper()}", "verified")

    return AuthenticReport(
        report=report, key=key, product=chain.product, simulated=roots.simulated, checks=checks.made()
    )


def _leaf(endorsements: tuple[bytes, ...], roots: RootSet) -> x509.Certificate:
    shipped = {certificate for chain in roots.chains for certificate in (chain.ark, chain.intermediate)}
    leaves = []
    for index, der in enumerate(endorsements):
        certificate = load_certificate(der, f"endorsement {index}")
        if kind_of(certificate) is not None:
            leaves.append(certificate)
        elif certificate not in shipped:
            # A peer's own ASK or ARK proves nothing; to pass over it in silence would look as if it did.
            raise EvidenceNotAuthentic(
                f"endorsement {index}",
                expected="a VCEK or VLEK certificate, or one of the pinned ones",
                found=subject(certificate),
            )
    if not leaves:
        raise EvidenceUncheckable("endorsements", expected="a VCEK or VLEK certificate", found="none")
    if len(leaves) > 1:
        raise EvidenceMalformed("endorsements", expected="one VCEK or VLEK certificate", found=str(len(leaves)))
    return leaves[0]


def _verify_issued(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    field = f"signature of {subject(certificate)}"
    if certificate.issuer != authority.subject:
        raise EvidenceNotAuthentic(field, expected=f"issued by {subject(authority)}", found=issuer(certificate))
    tbs = certificate.tbs_certificate_bytes
    if not _declares_pss(certificate.public_bytes(Encoding.DER), tbs):
        raise EvidenceNotAuthentic(
            field, expected="RSASSA-PSS, SHA-384, MGF1 SHA-384, salt 48, 4096 bits", found="another algorithm"
        )
    public_key = authority.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey) or public_key.key_size != RSA_BITS:
        raise EvidenceNotAuthentic(field, expected="an RSA-4096 issuer", found=type(public_key).__name__)
    try:
        public_key.verify(certificate.signature, tbs, padding.PSS(padding.MGF1(SHA384()), SALT_BYTES), SHA384())
    except InvalidSignature as error:
        raise EvidenceNotAuthentic(field, expected=f"one by {subject(authority)}", found="does not verify") from error


def _declares_pss(der: bytes, tbs: bytes) -> bool:
    """Whether the algorithm outside and inside of the signed part is exactly ours (RFC 5280 section 4.1.1.2)."""
    signature_start = len(der) - RSA_BITS // 8
    algorithm = der[_SEQUENCE_HEADER_BYTES + len(tbs) : signature_start - len(_BIT_STRING_OF_512_BYTES)]
    if algorithm not in PSS_SHA384_SALT48 or der[:signature_start][-5:] != _BIT_STRING_OF_512_BYTES:
        return False
    # Inside: version, serial number (a short INTEGER), algorithm.
    version, serial = tbs[_SEQUENCE_HEADER_BYTES:][:5], tbs[_SEQUENCE_HEADER_BYTES + 5 :]
    return version == _VERSION_3 and serial[2 + serial[1] :].startswith(algorithm)


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
