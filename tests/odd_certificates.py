"""Well-formed certificates with contents that no vendor's has."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

SUBJECT_ALTERNATIVE_NAME, ISSUER_ALTERNATIVE_NAME = "2.5.29.17", "2.5.29.18"
X400_ADDRESS, EDI_PARTY_NAME = 0xA3, 0xA5


def certificate_with(oid: str, value: bytes) -> bytes:
    """A self-signed certificate (DER) in a VCEK's name with one extension of the caller's bytes."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SEV-VCEK")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
    )
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    return builder.add_extension(extension, critical=False).sign(key, SHA384()).public_bytes(Encoding.DER)


def certificate_named(oid: str, kind: int) -> bytes:
    """A certificate whose alternative names are one of a kind that the library does not read."""
    return certificate_with(oid, bytes([0x30, 4, kind, 2, 0x30, 0]))
