"""AMD's signatures over certificates and revocation lists: one algorithm, whatever the signed object proposes.

RSASSA-PSS over RSA-4096 with SHA-384, MGF1 with SHA-384 and 48 bytes of salt. Sources: AMD 57230; RFC 4055 section 3.1
for the parameters; RFC 5280 sections 4.1.1.2 and 5.1.1.2, by which they stand inside and outside of the signed part.
"""

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import issuer, subject
from attestation.errors import EvidenceNotAuthentic

RSA_BITS: Final = 4096
SALT_BYTES: Final = 48
_SIGNATURE_BYTES = RSA_BITS // 8
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
_CERTIFICATE_VERSION_3 = bytes.fromhex("a003020102")
_LIST_VERSION_2 = bytes.fromhex("020101")


def verify_certificate(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """Raise `EvidenceNotAuthentic` unless `authority` issued and signed a certificate of version 3."""
    field = f"signature of {subject(certificate)}"
    if certificate.issuer != authority.subject:
        raise EvidenceNotAuthentic(field, expected=f"issued by {subject(authority)}", found=issuer(certificate))
    signed = certificate.tbs_certificate_bytes
    content = signed[_header_bytes(signed) :]
    version, serial = content[:5], content[5:]
    algorithm = serial[_header_bytes(serial) + serial[1] :] if version == _CERTIFICATE_VERSION_3 else b""
    _verify(certificate.public_bytes(Encoding.DER), signed, algorithm, certificate.signature, authority, field)


def verify_list(revoked: x509.CertificateRevocationList, authority: x509.Certificate, field: str) -> None:
    """Raise `EvidenceNotAuthentic` unless `authority` signed a revocation list, whose issuer it is known to be."""
    signed = revoked.tbs_certlist_bytes
    algorithm = signed[_header_bytes(signed) :].removeprefix(_LIST_VERSION_2)
    _verify(revoked.public_bytes(Encoding.DER), signed, algorithm, revoked.signature, authority, field)


def _verify(
    der: bytes, signed: bytes, inner_algorithm: bytes, signature: bytes, authority: x509.Certificate, field: str
) -> None:
    """`inner_algorithm` is what follows from the place in the signed part where the algorithm stands."""
    outer_algorithm = der[_header_bytes(der) + len(signed) : -len(_BIT_STRING_OF_512_BYTES) - _SIGNATURE_BYTES]
    if (
        outer_algorithm not in PSS_SHA384_SALT48
        or not inner_algorithm.startswith(outer_algorithm)
        or der[:-_SIGNATURE_BYTES][-len(_BIT_STRING_OF_512_BYTES) :] != _BIT_STRING_OF_512_BYTES
    ):
        raise EvidenceNotAuthentic(
            field, expected="RSASSA-PSS, SHA-384, MGF1 SHA-384, salt 48, 4096 bits", found="another algorithm"
        )
    public_key = authority.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey) or public_key.key_size != RSA_BITS:
        raise EvidenceNotAuthentic(field, expected="an RSA-4096 issuer", found=type(public_key).__name__)
    try:
        public_key.verify(signature, signed, padding.PSS(padding.MGF1(SHA384()), SALT_BYTES), SHA384())
    except InvalidSignature as error:
        raise EvidenceNotAuthentic(field, expected=f"one by {subject(authority)}", found="does not verify") from error


def _header_bytes(element: bytes) -> int:
    """The size of tag and length of a DER element that a library has read before."""
    return 2 + (element[1] & 0x7F if element[1] & 0x80 else 0)
