"""Credentials: whom the federation port lets in, and whom not."""

import pickle
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocol.credentials import (
    CertificateAuthority,
    CredentialKey,
    check_credential,
    check_credential_key,
    new_credential_key,
    pem_of,
    silo_of,
    spiffe_id_of,
)
from protocol.errors import MalformedError, SignatureError

NOW = 1_800_000_000
SPIFFE = "spiffe://simulated.digits/silo/north"


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("simulated.strongroom.example/digits", NOW)


@pytest.fixture(scope="module")
def credential(authority: CertificateAuthority) -> bytes:
    return authority.issue(new_credential_key().spki_der, SPIFFE, NOW, NOW + 3600)


def spki(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_credential_verifies_under_its_authority_while_it_lasts(
    authority: CertificateAuthority, credential: bytes
) -> None:
    assert check_credential(credential, authority.certificate_der, NOW) == SPIFFE
    assert check_credential(credential, authority.certificate_der, NOW + 3600) == SPIFFE
    assert spiffe_id_of(credential) == SPIFFE


@pytest.mark.parametrize("now", [NOW - 1, NOW + 3601])
def test_outside_its_dates_it_is_refused(authority: CertificateAuthority, credential: bytes, now: int) -> None:
    with pytest.raises(SignatureError, match="valid now"):
        check_credential(credential, authority.certificate_der, now)


def test_another_boots_authority_of_the_same_name_refuses_it(credential: bytes) -> None:
    other = CertificateAuthority.create("simulated.strongroom.example/digits", NOW)
    with pytest.raises(SignatureError, match="this boot's authority"):
        check_credential(credential, other.certificate_der, NOW)


def test_a_gateway_certificate_is_no_credential(authority: CertificateAuthority) -> None:
    certificate = new_credential_key().gateway_certificate("strongroom-gateway", NOW)
    with pytest.raises(MalformedError, match="only name"):
        check_credential(certificate, authority.certificate_der, NOW)


def test_the_authority_itself_is_no_credential(authority: CertificateAuthority) -> None:
    with pytest.raises(MalformedError, match="alternative name, found none"):
        check_credential(authority.certificate_der, authority.certificate_der, NOW)


def test_a_silo_cannot_issue_credentials_with_its_own(authority: CertificateAuthority) -> None:
    """The path length of 0 and CA=false keep a silo from vouching for another."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = authority.issue(spki(key), SPIFFE, NOW, NOW + 3600)
    forged = CertificateAuthority(key, x509.load_der_x509_certificate(own)).issue(
        new_credential_key().spki_der, "spiffe://simulated.digits/silo/south", NOW, NOW + 3600
    )
    with pytest.raises(SignatureError):
        check_credential(forged, authority.certificate_der, NOW)
    with pytest.raises(SignatureError):
        check_credential(forged, own, NOW)


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())],
    ids=["ed25519", "p384"],
)
def test_only_p256_keys_get_a_credential(authority: CertificateAuthority, key: object) -> None:
    with pytest.raises(MalformedError, match="P-256"):
        authority.issue(spki(key), SPIFFE, NOW, NOW + 3600)
    with pytest.raises(MalformedError, match="P-256"):
        check_credential_key(spki(key))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "north",
        "https://simulated.digits/silo/north",
        "spiffe://simulated.digits/silo/",
        "spiffe://simulated.digits/silo/North",
        "spiffe://simulated.digits/silo/north/more",
        "spiffe://simulated.digits/silo/north\n",
        "spiffe:///silo/north",
        "spiffe://simulated.digits/silo/" + "n" * 64,
    ],
)
def test_only_silos_names_are_certified(authority: CertificateAuthority, name: str) -> None:
    with pytest.raises(MalformedError, match="SPIFFE"):
        authority.issue(new_credential_key().spki_der, name, NOW, NOW + 3600)


def test_a_silo_is_one_of_this_trust_domain_only() -> None:
    assert silo_of(SPIFFE, "simulated.digits") == "north"
    assert silo_of(SPIFFE, "digits") is None
    assert silo_of("spiffe://simulated.digits.evil/silo/north", "simulated.digits") is None
    assert silo_of("spiffe://simulated.digits/silo/north/x", "simulated.digits") is None
    assert silo_of("spiffe://simulatedxdigits/silo/north", "simulated.digits") is None


def test_two_names_are_none(authority: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.UniformResourceIdentifier(SPIFFE), x509.UniformResourceIdentifier(SPIFFE.replace("north", "south"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(NOW, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW + 10, UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(MalformedError, match="only name"):
        spiffe_id_of(certificate.public_bytes(Encoding.DER))


def test_a_credential_says_what_it_is_for(credential: bytes) -> None:
    extensions = x509.load_der_x509_certificate(credential).extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign


def test_openssl_agrees(authority: CertificateAuthority, credential: bytes, tmp_path: Path) -> None:
    """An implementation that isn't ours, nor the one that issued it, verifies chain and purpose."""
    (tmp_path / "ca.pem").write_bytes(pem_of(authority.certificate_der))
    (tmp_path / "leaf.pem").write_bytes(pem_of(credential))
    try:
        done = subprocess.run(
            [
                *("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", str(NOW + 1)),
                *("-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / "leaf.pem")),
            ],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("no openssl command here")
    assert done.returncode == 0, done.stderr


def test_keys_are_secrets(authority: CertificateAuthority) -> None:
    key = new_credential_key()
    assert isinstance(key, CredentialKey)
    for secret in (key, authority):
        assert "redacted" in repr(secret)
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(secret)
