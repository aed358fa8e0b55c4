"""Issues certificates in the form of AMD's key distribution service, under whatever key it is given.

Called by `generate`, which made the files in `hierarchy/`, and by tests that need a chip, product or provider of
their own. Trusts its caller: it signs what it is told to.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import NameOID

from attestation.snp.certificates import (
    CSP_ID,
    HARDWARE_ID,
    HARDWARE_ID_BYTES,
    PRODUCT_NAME,
    RESERVED_TCB_EXTENSIONS,
    SECURITY_VERSION,
    STRUCT_VERSION,
    STRUCT_VERSIONS,
    SUBJECT,
    TCB_EXTENSIONS,
)
from attestation.snp.flags import SigningKey
from attestation.snp.signatures import SALT_BYTES
from attestation.snp.tcb import TcbVersion

ORGANISATION: Final = "Strongroom simulation (protects nothing)"
ROOT_SERIAL: Final = 0x40000
INTERMEDIATE_SERIAL: Final = 0x40001
# AMD's leaves have the serial number 0, which the library does not write.
_LEAF_SERIAL = 1
_PSS = padding.PSS(padding.MGF1(SHA384()), SALT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority: its certificate and the RSA-4096 key to it."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def issue_root(name: str, key: rsa.RSAPrivateKey, *, not_before: datetime, not_after: datetime) -> Authority:
    """A self-signed root (the ARK's form) with this common name."""
    builder = _builder(name, _name(name), not_before, not_after)
    builder = builder.serial_number(ROOT_SERIAL).public_key(key.public_key())
    builder = _as_authority(builder, key, path_length=None)
    return Authority(certificate=builder.sign(key, SHA384(), rsa_padding=_PSS), key=key)


def issue_intermediate(
    name: str, key: rsa.RSAPrivateKey, root: Authority, *, not_before: datetime, not_after: datetime
) -> Authority:
    """An intermediate (the ASK's or ASVK's form) with this common name under a root."""
    builder = _builder(name, root.certificate.subject, not_before, not_after)
    builder = builder.serial_number(INTERMEDIATE_SERIAL).public_key(key.public_key())
    builder = _as_authority(builder, key, path_length=0)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return Authority(certificate=builder.sign(root.key, SHA384(), rsa_padding=_PSS), key=key)


def issue_endorsement(
    kind: SigningKey,
    public_key: ec.EllipticCurvePublicKey,
    intermediate: Authority,
    *,
    tcb: TcbVersion,
    identity: bytes,
    not_before: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """A VCEK or VLEK certificate for a P-384 key.

    `identity` is CHIP_ID (64 bytes) for a VCEK, and CSP_ID in ASCII for a VLEK.
    """
    product = tcb.product
    versions = {number: tcb.components()[name] for name, number in TCB_EXTENSIONS[product].items()}
    versions |= dict.fromkeys(RESERVED_TCB_EXTENSIONS[product], 0)
    extensions = {
        STRUCT_VERSION: _integer(STRUCT_VERSIONS[product]),
        PRODUCT_NAME: _ia5_string(product.encode()),
        **{SECURITY_VERSION + number: _integer(value) for number, value in sorted(versions.items())},
    }
    if kind is SigningKey.VCEK:
        extensions[HARDWARE_ID] = identity[: HARDWARE_ID_BYTES[product]]
    else:
        extensions[CSP_ID] = _ia5_string(identity)
    builder = _builder(SUBJECT[kind], intermediate.certificate.subject, not_before, not_after)
    builder = builder.serial_number(_LEAF_SERIAL).public_key(public_key)
    for oid, value in extensions.items():
        unrecognized = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unrecognized, critical=False)
    return builder.sign(intermediate.key, SHA384(), rsa_padding=_PSS)


def _builder(name: str, issuer: x509.Name, not_before: datetime, not_after: datetime) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(issuer)
    return builder.not_valid_before(not_before).not_valid_after(not_after)


def _as_authority(
    builder: x509.CertificateBuilder, key: rsa.RSAPrivateKey, path_length: int | None
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)


def _name(common_name: str) -> x509.Name:
    attributes = ((NameOID.ORGANIZATION_NAME, ORGANISATION), (NameOID.COMMON_NAME, common_name))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def _integer(value: int) -> bytes:
    return bytes((0x02, 1, value)) if value < 128 else bytes((0x02, 2, 0, value))


def _ia5_string(text: bytes) -> bytes:
    return bytes((0x16, len(text))) + text
