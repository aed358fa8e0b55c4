"""Well-formed certificates with contents that no vendor's has."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

SUBJECT_ALTERNATIVE_NAME, ISSUER_ALTERNATIVE_NAME = "2.5.29.17", "2.5.29.18"
X400_ADDRESS, EDI_PARTY_NAME = 0xA3, 0xA5
INTEGER, BIT_STRING, OBJECT_IDENTIFIER, SEQUENCE = 0x02, 0x03, 0x06, 0x30
_KEY = ec.generate_private_key(ec.SECP384R1())


def certificate_with(oid: str, value: bytes) -> bytes:
    """A self-signed certificate (DER) in a VCEK's name with one extension of the caller's bytes."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SEV-VCEK")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(_KEY.public_key())
    builder = (
        builder.serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
    )
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    return builder.add_extension(extension, critical=False).sign(_KEY, SHA384()).public_bytes(Encoding.DER)


def certificate_named(oid: str, kind: int) -> bytes:
    """A certificate whose alternative names are one of a kind that the library does not read."""
    return certificate_with(oid, bytes([0x30, 4, kind, 2, 0x30, 0]))


def finite_field_key() -> bytes:
    """A SubjectPublicKeyInfo (DER) for X9.42 Diffie-Hellman, with small numbers.

    Libraries check such a key by an exponentiation when they load it: half a minute with 32,000 bits.
    """
    algorithm = _der(OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce3e0201"))
    prime, generator, order, public = 23, 2, 11, 4
    parameters = _der(SEQUENCE, b"".join(_integer(number) for number in (prime, generator, order)))
    return _der(SEQUENCE, _der(SEQUENCE, algorithm + parameters) + _der(BIT_STRING, b"\0" + _integer(public)))


def certificate_over(key: bytes) -> bytes:
    """A certificate (DER) in a VCEK's name over another SubjectPublicKeyInfo, which its signature doesn't cover."""
    whole = certificate_with(SUBJECT_ALTERNATIVE_NAME, bytes([0x30, 3, 0x82, 1, 0x61]))
    signed = x509.load_der_x509_certificate(whole).tbs_certificate_bytes
    own = _KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    content = signed[_header_bytes(signed) :].replace(own, key)
    rest = whole[whole.index(signed) + len(signed) :]
    return _der(SEQUENCE, _der(SEQUENCE, content) + rest)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _integer(value: int) -> bytes:
    return _der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _header_bytes(element: bytes) -> int:
    return 2 + (element[1] & 0x7F if element[1] & 0x80 else 0)
