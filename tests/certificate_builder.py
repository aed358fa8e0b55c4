"""Certificates of test authorities, one at a time, with any one thing wrong. Their names say whose they are not."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2026, 12, 31, tzinfo=UTC)


def usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    """A keyUsage extension."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


AUTHORITY = ((x509.BasicConstraints(ca=True, path_length=None), True), (usage(key_cert_sign=True), True))
SIGNER = ((x509.BasicConstraints(ca=False, path_length=None), True), (usage(digital_signature=True), False))


@dataclass(frozen=True)
class Party:
    """A key, and the certificate over it."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def name(common_name: str) -> x509.Name:
    """A distinguished name that nobody can take for a vendor's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Strongroom tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def issue(
    common_name: str,
    key: Any,
    authority: Party | None = None,
    *,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = AUTHORITY,
    digest: HashAlgorithm | None = None,
    not_before: datetime = NOT_BEFORE,
    not_after: datetime = NOT_AFTER,
    issuer: x509.Name | None = None,
    signing_key: Any = None,
) -> Party:
    """A certificate over `key`, signed by `authority` or by itself."""
    signer = signing_key or (key if authority is None else authority.key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer or (name(common_name) if authority is None else authority.certificate.subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    algorithm = digest or (SHA256() if hasattr(signer, "decrypt") else SHA384())
    return Party(key=key, certificate=builder.sign(signer, algorithm))
