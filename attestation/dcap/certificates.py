"""Certificates and revocation lists of Intel's SGX hierarchy: which part each plays, and whether one issued another.

Trusts nothing that it reads. All keys are P-256 and all signatures ECDSA with SHA-256, whatever a certificate proposes.

Sources: RFC 5280; Intel SGX PCK certificate and certificate revocation list profile specification.
"""

import re
from base64 import b64decode
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID, PublicKeyAlgorithmOID, SignatureAlgorithmOID

from attestation.certificates import UNREADABLE, issuer, load_certificate, quietly, subject
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic

PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----")
CERTIFICATE_LABEL: Final = b"CERTIFICATE"
REVOCATION_LIST_LABEL: Final = b"X509 CRL"
_KNOWN_CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
# A list with any other extension may be partial (delta, per distribution point) or speak for others (indirect).
_KNOWN_IN_LISTS = {ExtensionOID.CRL_NUMBER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER}
_SEQUENCE = 0x30


class Role(StrEnum):
    """The part that a certificate plays, by its common name."""

    ROOT = "Intel SGX Root CA"
    PLATFORM_CA = "Intel SGX PCK Platform CA"
    PROCESSOR_CA = "Intel SGX PCK Processor CA"
    TCB_SIGNING = "Intel SGX TCB Signing"
    PCK = "Intel SGX PCK Certificate"


PCK_AUTHORITIES: Final = (Role.PLATFORM_CA, Role.PROCESSOR_CA)


def role_of(certificate: x509.Certificate) -> Role | None:
    """The part that a certificate claims to play."""
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return next((role for role in Role if names == [role]), None)


def load_certificates(data: bytes, field: str) -> list[x509.Certificate]:
    """The certificates in PEM, or in DER one after another; raises `EvidenceMalformed`."""
    if b"-----BEGIN" in data:
        ders = [der for label, der in pem_blocks(data, field) if label == CERTIFICATE_LABEL]
    else:
        ders = _der_sequences(data, field)
    if not ders:
        raise EvidenceMalformed(field, expected="certificates in PEM or DER", found="none")
    return [load_certificate(der, field) for der in ders]


def pem_blocks(data: bytes, field: str) -> list[tuple[bytes, bytes]]:
    """Label and DER of each PEM block, between which only white space and zero bytes may stand."""
    if PEM.sub(b"", data).strip(b"\0 \t\r\n"):
        raise EvidenceMalformed(field, expected="PEM blocks and nothing else", found="something else")
    blocks = []
    for label, text in PEM.findall(data):
        if label not in (CERTIFICATE_LABEL, REVOCATION_LIST_LABEL):
            raise EvidenceMalformed(field, expected="CERTIFICATE or X509 CRL", found=ascii(label)[2:-1])
        try:
            blocks.append((label, b64decode(b"".join(text.split()), validate=True)))
        except ValueError as error:
            raise EvidenceMalformed(field, expected="base64 within PEM", found="something else") from error
    return blocks


def load_revocation_list(der: bytes, field: str) -> x509.CertificateRevocationList:
    """Parse one DER revocation list, what is read lazily included; raises `EvidenceMalformed`."""
    try:
        with quietly():
            revocation_list = x509.load_der_x509_crl(der)
            _ = revocation_list.issuer, revocation_list.extensions, revocation_list.signature_algorithm_oid
            _ = revocation_list.last_update_utc, revocation_list.next_update_utc
            for entry in revocation_list:
                _ = entry.serial_number
    except UNREADABLE as error:
        raise EvidenceMalformed(field, expected="a DER X.509 revocation list", found=type(error).__name__) from error
    return revocation_list


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """A certificate's key; raises `EvidenceNotAuthentic` if it isn't on P-256."""
    field = f"key of {subject(certificate)}"
    # The kind first: to load other kinds of key can take half a minute.
    if certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.EC_PUBLIC_KEY:
        raise EvidenceNotAuthentic(field, expected="P-256", found=certificate.public_key_algorithm_oid.dotted_string)
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise EvidenceNotAuthentic(field, expected="P-256", found=type(error).__name__) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EvidenceNotAuthentic(field, expected="P-256", found="another key")
    return key


def key_bytes(certificate: x509.Certificate) -> bytes:
    """A certificate's SubjectPublicKeyInfo (DER)."""
    return public_key_of(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def require_issued(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """Raise `EvidenceNotAuthentic` unless `authority` may issue and did issue this certificate.

    Names, signature and critical extensions are checked, and what either may do: an authority's basic constraints and
    key usage, and that everything but an authority says it is none. Dates and revocation are the caller's.
    """
    field = f"signature of {subject(certificate)}"
    if certificate.issuer != authority.subject:
        raise EvidenceNotAuthentic(field, expected=f"issued by {subject(authority)}", found=issuer(certificate))
    _require_authority(authority)
    _require_known_critical(certificate)
    if certificate.version is not x509.Version.v3:
        raise EvidenceNotAuthentic(field, expected="a version 3 certificate", found=certificate.version.name)
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise EvidenceNotAuthentic(
            field, expected="ECDSA with SHA-256", found=certificate.signature_algorithm_oid.dotted_string
        )
    public_key_of(certificate)
    public_key_of(authority)
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise EvidenceNotAuthentic(field, expected=f"one by {subject(authority)}", found="does not verify") from error


def require_no_authority(certificate: x509.Certificate) -> None:
    """Raise `EvidenceNotAuthentic` unless this is a certificate over a signing key that issues nothing."""
    constraints = _basic_constraints(certificate)
    if constraints is None or constraints.ca:
        raise EvidenceNotAuthentic(f"basic constraints of {subject(certificate)}", expected="no CA", found="a CA")
    usage = _key_usage(certificate)
    if usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise EvidenceNotAuthentic(
            f"key usage of {subject(certificate)}", expected="signatures, no certificates", found="another"
        )


def require_list_of(revocation_list: x509.CertificateRevocationList, authority: x509.Certificate) -> None:
    """Raise `EvidenceNotAuthentic` unless this is `authority`'s full revocation list."""
    field = f"signature of the revocation list of {subject(authority)}"
    _require_authority(authority)
    usage = _key_usage(authority)
    if usage is None or not usage.crl_sign:
        raise EvidenceNotAuthentic(f"key usage of {subject(authority)}", expected="revocation lists", found="another")
    for extension in revocation_list.extensions:
        if extension.oid not in _KNOWN_IN_LISTS:
            raise EvidenceNotAuthentic(
                f"revocation list of {subject(authority)}", expected="a full one", found=extension.oid.dotted_string
            )
    if revocation_list.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise EvidenceNotAuthentic(field, expected="ECDSA with SHA-256", found="another algorithm")
    if revocation_list.issuer != authority.subject or not _signed(revocation_list, public_key_of(authority)):
        raise EvidenceNotAuthentic(field, expected=f"one by {subject(authority)}", found="does not verify")


def _signed(revocation_list: x509.CertificateRevocationList, key: ec.EllipticCurvePublicKey) -> bool:
    try:
        return revocation_list.is_signature_valid(key)
    except (ValueError, TypeError):
        return False


def _require_authority(certificate: x509.Certificate) -> None:
    constraints, usage = _basic_constraints(certificate), _key_usage(certificate)
    if constraints is None or not constraints.ca:
        raise EvidenceNotAuthentic(f"basic constraints of {subject(certificate)}", expected="a CA", found="no CA")
    if usage is None or not usage.key_cert_sign:
        raise EvidenceNotAuthentic(f"key usage of {subject(certificate)}", expected="certificates", found="another")


def _require_known_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise EvidenceNotAuthentic(
                f"critical extension of {subject(certificate)}",
                expected="basic constraints and key usage",
                found=extension.oid.dotted_string,
            )


def _basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _der_sequences(data: bytes, field: str) -> list[bytes]:
    """Certificates in DER one after another: each says how long it is (two bytes of length, as all certificates)."""
    found, offset = [], 0
    while offset < len(data):
        if data[offset : offset + 2] != bytes((_SEQUENCE, 0x82)):
            raise EvidenceMalformed(field, expected="certificates in PEM or DER", found=data[offset:][:16].hex())
        end = offset + 4 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        found.append(data[offset:end])
        offset = end
    return found
