"""X.509 for TLS: the enclave's certificate authority, the silos' short-lived credentials, the gateway's certificate.

TLS is hygiene and carries no trust: a credential lets the gateway shed load, while the enclave checks every object
against its admission table. The authority's key is made in the enclave's memory at each boot and bound in its evidence.
P-256 throughout, because gRPC's TLS stack refuses Ed25519 leaves (RFC 5280; SPIFFE X.509-SVID).

Parsers of foreign bytes raise `MalformedError` only; a chain that does not verify is a `SignatureError`.
"""

import re
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from protocol.errors import MalformedError, SignatureError
from protocol.keys import Secret

LIMIT_BYTES = 8192
# RFC 5480: id-ecPublicKey, secp256r1, an uncompressed point (of 64 bytes, which follow).
_P256_UNCOMPRESSED = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_BYTES = len(_P256_UNCOMPRESSED) + 64

_BEFORE_SECONDS = 86_400
_AFTER_SECONDS = 10 * 365 * 86_400
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9.-]{1,255}/silo/([a-z0-9-]{1,63})")
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class CredentialKey(Secret):
    """A P-256 private key for TLS; lives in memory only."""

    __slots__ = ("_private", "spki_der")

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        """Wrap a P-256 private key; `new_credential_key` makes one."""
        self._private = private
        self.spki_der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def private_pem(self) -> bytes:
        """The secret as PKCS #8 PEM, for the TLS stack."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def gateway_certificate(self, name: str, now: int) -> bytes:
        """A self-signed server certificate (DER) over this key with the DNS name `name`."""
        builder = _leaf(self._private.public_key(), ExtendedKeyUsageOID.SERVER_AUTH, x509.DNSName(name), critical=False)
        own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = builder.subject_name(own).issuer_name(own)
        builder = builder.not_valid_before(_time(now - _BEFORE_SECONDS))
        builder = builder.not_valid_after(_time(now + _AFTER_SECONDS))
        return builder.sign(self._private, hashes.SHA256()).public_bytes(Encoding.DER)


def new_credential_key() -> CredentialKey:
    """A fresh P-256 key from the operating system's generator."""
    return CredentialKey(ec.generate_private_key(ec.SECP256R1()))


class CertificateAuthority(Secret):
    """The enclave's own authority, new at every boot; its key never leaves memory."""

    __slots__ = ("_certificate", "_private", "certificate_der", "public_spki_der")

    def __init__(self, private: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        """Use `create`."""
        self._private = private
        self._certificate = certificate
        self.certificate_der = certificate.public_bytes(Encoding.DER)
        self.public_spki_der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def create(cls, common_name: str, now: int) -> "CertificateAuthority":
        """Make a key and a self-signed certificate. `now`: unix seconds; `common_name` is for people (at most 64)."""
        private = ec.generate_private_key(ec.SECP256R1())
        own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        ski = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(own)
            .issuer_name(own)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(now - _BEFORE_SECONDS))
            .not_valid_after(_time(now + _AFTER_SECONDS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(certificate_signing=True), critical=True)
            .add_extension(ski, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
            .sign(private, hashes.SHA256())
        )
        return cls(private, certificate)

    def issue(self, spki_der: bytes, spiffe_id: str, not_before: int, not_after: int) -> bytes:
        """A client certificate (DER) for a silo's P-256 key, its name the one URI `spiffe_id`.

        `not_before`, `not_after`: unix seconds. Let it outlive its admission (by a day, say): then the enclave's table,
        and not the TLS stack, says "expired", and says it in words.
        Raises `MalformedError` if `spki_der` is not a P-256 SubjectPublicKeyInfo or `spiffe_id` names no silo.
        """
        if not _SPIFFE_ID.fullmatch(spiffe_id):
            raise MalformedError(f"SPIFFE ID: expected spiffe://<domain>/silo/<name>, found {spiffe_id[:120]!r}")
        name = x509.UniformResourceIdentifier(spiffe_id)
        # The subject is empty, so the alternative name is critical (RFC 5280 §4.2.1.6).
        builder = _leaf(_p256(spki_der), ExtendedKeyUsageOID.CLIENT_AUTH, name, critical=True)
        builder = builder.subject_name(x509.Name([])).issuer_name(self._certificate.subject)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private.public_key()), critical=False
        )
        builder = builder.not_valid_before(_time(not_before)).not_valid_after(_time(not_after))
        return builder.sign(self._private, hashes.SHA256()).public_bytes(Encoding.DER)


def spiffe_id_of(der: bytes) -> str:
    """The one SPIFFE ID in a credential, unverified; raises `MalformedError`."""
    try:
        names = _load(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise MalformedError("credential: expected a subject alternative name, found none") from error
    except _UNREADABLE as error:
        raise MalformedError(f"credential: its extensions do not parse ({type(error).__name__})") from error
    found = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(names) != 1 or len(found) != 1 or not _SPIFFE_ID.fullmatch(found[0]):
        raise MalformedError("credential: expected spiffe://<domain>/silo/<name> as its only name, found others")
    return found[0]


def silo_of(spiffe_id: str, domain: str) -> str | None:
    """The silo's name in a SPIFFE ID of this trust domain, or None."""
    match = _SPIFFE_ID.fullmatch(spiffe_id)
    return match.group(1) if match and spiffe_id == f"spiffe://{domain}/silo/{match.group(1)}" else None


def check_credential(der: bytes, authority_der: bytes, now: int) -> str:
    """The credential's SPIFFE ID, once its chain to this authority, its purpose and its dates verify (RFC 5280).

    Raises `MalformedError` (does not parse) or `SignatureError` (another authority, wrong purpose, not valid at `now`).
    """
    credential, authority = _load(der), _load(authority_der)
    spiffe_id = spiffe_id_of(der)
    try:
        verifier = PolicyBuilder().store(Store([authority])).time(_time(now)).build_client_verifier()
        verifier.verify(credential, [])
    except (VerificationError, *_UNREADABLE) as error:
        raise SignatureError(
            f"credential of {spiffe_id}: expected one by this boot's authority, for clients, valid now; {error}"
        ) from error
    return spiffe_id


def pem_of(der: bytes) -> bytes:
    """A certificate as PEM, the form that TLS stacks take; raises `MalformedError`."""
    return _load(der).public_bytes(Encoding.PEM)


def check_credential_key(spki_der: bytes) -> None:
    """Raise `MalformedError` unless the bytes are a P-256 SubjectPublicKeyInfo (DER)."""
    _p256(spki_der)


def _load(der: bytes) -> x509.Certificate:
    if not 0 < len(der) <= LIMIT_BYTES:
        raise MalformedError(f"certificate: expected 1 to {LIMIT_BYTES} bytes, found {len(der)}")
    try:
        return x509.load_der_x509_certificate(der)
    except _UNREADABLE as error:
        raise MalformedError(f"certificate: not X.509 ({type(error).__name__})") from error


def _p256(spki_der: bytes) -> ec.EllipticCurvePublicKey:
    # Before it is loaded: checking a Diffie-Hellman key of 7 kB takes the library seconds, and all threads.
    if len(spki_der) != _P256_BYTES or not spki_der.startswith(_P256_UNCOMPRESSED):
        raise MalformedError(
            f"credential key: expected the {_P256_BYTES} bytes of a P-256 SubjectPublicKeyInfo, found other bytes"
        )
    try:
        key = load_der_public_key(spki_der)
    except _UNREADABLE as error:
        raise MalformedError(
            f"credential key: expected a P-256 SubjectPublicKeyInfo, found other bytes ({type(error).__name__})"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedError("credential key: expected a P-256 key, found another kind")
    return key


def _leaf(
    key: ec.EllipticCurvePublicKey, purpose: x509.ObjectIdentifier, name: x509.GeneralName, *, critical: bool
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificate_signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([name]), critical=critical)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, certificate_signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_signing,
        crl_sign=certificate_signing,
        encipher_only=False,
        decipher_only=False,
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
