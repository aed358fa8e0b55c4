"""A chain of X.509 certificates, from a pinned root down to the key that signed: every link, in the order given.

Trusts the root that the caller ships, and nothing that came with the evidence. No path is searched for: the formats
that bring their chain prescribe its order, so that there is one path or none. It is walked from the root downwards: no
key is used before the one above it has vouched for it, and every refusal names the certificate.

Called by `nitro` and `token`. AMD's chains are of another kind (`snp.authenticate`). Sources: RFC 5280 section 6.1;
aws-nitro-enclaves-nsm-api docs/attestation_process.md section 3.2.3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, PublicKeyAlgorithmOID, SignatureAlgorithmOID

from attestation.certificates import UNREADABLE, issuer, subject
from attestation.checklist import Checklist
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic

RSA_EXPONENT: Final = 65537
RSA_BITS: Final = range(2048, 4097)
_UNDERSTOOD = (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE)
_Value = TypeVar("_Value", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainProfile:
    """What every certificate of one kind of chain has: its keys and its signatures.

    `leaf_key_usage`: whether the lowest certificate must say that its key signs; where it says so of another use only,
    it is refused in any case.
    """

    signature_algorithm: x509.ObjectIdentifier
    key_algorithm: x509.ObjectIdentifier
    is_key: Callable[[object], bool]
    key_in_words: str
    leaf_key_usage: bool


def _is_p384(key: object) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)


def _is_rsa(key: object) -> bool:
    """An RSA key of 2048 to 4096 bits (RFC 7518 section 3.3 asks for 2048) with the exponent that everybody uses.

    Longer ones would let a stranger choose how long a verification takes.
    """
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    return key.key_size in RSA_BITS and key.public_numbers().e == RSA_EXPONENT


P384_SHA384: Final = ChainProfile(
    signature_algorithm=SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    key_algorithm=PublicKeyAlgorithmOID.EC_PUBLIC_KEY,
    is_key=_is_p384,
    key_in_words="P-384",
    leaf_key_usage=True,
)
RSA_SHA256: Final = ChainProfile(
    signature_algorithm=SignatureAlgorithmOID.RSA_WITH_SHA256,
    key_algorithm=PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5,
    is_key=_is_rsa,
    key_in_words="RSA of 2048 to 4096 bits",
    leaf_key_usage=False,
)


def require_root(chain: Sequence[x509.Certificate], root: x509.Certificate) -> None:
    """The last one is the pinned root, byte for byte. Raises `EvidenceNotAuthentic`.

    That a chain brings a root proves nothing; comparing it tells a stranger's chain from a damaged one.
    """
    if not chain or chain[-1].public_bytes(Encoding.DER) != root.public_bytes(Encoding.DER):
        found = f"another one, {subject(chain[-1])}" if chain else "no certificate"
        raise EvidenceNotAuthentic("root", expected=f"the pinned {subject(root)}", found=found)


def verify_links(chain: Sequence[x509.Certificate], profile: ChainProfile) -> None:
    """Each certificate may issue the one before it and did; the first is the signer's, the last the pinned root.

    Raises `EvidenceNotAuthentic` naming the certificate; `EvidenceMalformed` for a key that can't be read.
    """
    for depth in range(len(chain) - 1, 0, -1):
        authority, certificate = chain[depth], chain[depth - 1]
        _require_authority(authority, below=depth - 1)
        _verify_issued(certificate, authority, profile)
    _require_signer(chain[0], profile)
    key_of(chain[0], profile)


def require_dates(checks: Checklist, number: int, chain: Sequence[x509.Certificate], now: datetime) -> None:
    """All are valid at the aware time `now`, the root first."""
    for certificate in reversed(chain):
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        checks.require(
            not_before <= now <= not_after,
            number,
            f"validity of {subject(certificate)}",
            f"a time from {not_before.isoformat()} to {not_after.isoformat()}",
            now.isoformat(),
        )


def key_of(certificate: x509.Certificate, profile: ChainProfile) -> object:
    """A certificate's key, if it is of the profile's kind; raises `EvidenceNotAuthentic`, `EvidenceMalformed`.

    The kind is looked at before the key is loaded: checking some keys takes the library half a minute.
    """
    field = f"key of {subject(certificate)}"
    algorithm = certificate.public_key_algorithm_oid
    if algorithm != profile.key_algorithm:
        raise EvidenceNotAuthentic(field, expected=profile.key_in_words, found=algorithm.dotted_string)
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise EvidenceMalformed(field, expected=profile.key_in_words, found=type(error).__name__) from error
    if not profile.is_key(key):
        raise EvidenceNotAuthentic(field, expected=profile.key_in_words, found="another kind or size")
    return key


def _verify_issued(certificate: x509.Certificate, authority: x509.Certificate, profile: ChainProfile) -> None:
    field = f"signature of {subject(certificate)}"
    if certificate.issuer != authority.subject:
        raise EvidenceNotAuthentic(field, expected=f"one by {subject(authority)}", found=f"by {issuer(certificate)}")
    if certificate.signature_algorithm_oid != profile.signature_algorithm:
        raise EvidenceNotAuthentic(
            field,
            expected=profile.signature_algorithm.dotted_string,
            found=certificate.signature_algorithm_oid.dotted_string,
        )
    key_of(authority, profile)
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *UNREADABLE) as error:
        raise EvidenceNotAuthentic(field, expected=f"one by {subject(authority)}", found="does not verify") from error


def _require_authority(certificate: x509.Certificate, below: int) -> None:
    """It may issue certificates, with `below` other authorities under it."""
    field = f"extensions of {subject(certificate)}"
    _require_understood(certificate, field)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise EvidenceNotAuthentic(field, expected="critical basicConstraints with CA", found=_words(constraints))
    limit = constraints.value.path_length
    if limit is not None and limit < below:
        raise EvidenceNotAuthentic(field, expected=f"pathLenConstraint of at least {below}", found=str(limit))
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.value.key_cert_sign:
        raise EvidenceNotAuthentic(field, expected="keyUsage keyCertSign", found=_words(usage))


def _require_signer(certificate: x509.Certificate, profile: ChainProfile) -> None:
    """It is no authority, and its key may sign."""
    field = f"extensions of {subject(certificate)}"
    _require_understood(certificate, field)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and (constraints.value.ca or constraints.value.path_length is not None):
        raise EvidenceNotAuthentic(field, expected="no CA", found=_words(constraints))
    usage = _extension(certificate, x509.KeyUsage)
    if profile.leaf_key_usage if usage is None else not usage.value.digital_signature:
        raise EvidenceNotAuthentic(field, expected="keyUsage digitalSignature", found=_words(usage))


def _require_understood(certificate: x509.Certificate, field: str) -> None:
    if certificate.version is not x509.Version.v3:
        raise EvidenceNotAuthentic(field, expected="a certificate of version 3", found=certificate.version.name)
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise EvidenceNotAuthentic(
                field, expected="no critical one but basicConstraints and keyUsage", found=extension.oid.dotted_string
            )


def _extension(certificate: x509.Certificate, kind: type[_Value]) -> x509.Extension[_Value] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _words(extension: object) -> str:
    return "none" if extension is None else "another one"
