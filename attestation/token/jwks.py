"""JSON Web Key Sets: the keys that an issuer publishes, as they come along as an endorsement.

Trusts nothing: a key that a set holds means something only once the reference values pin its thumbprint. Sources: RFC
7517 sections 4 and 5; RFC 7518 section 6.3.1; RFC 7638.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.certificates import load_certificate
from attestation.chain import RSA_BITS, RSA_EXPONENT, RSA_SHA256, key_of
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic, EvidenceUncheckable
from attestation.token.claim_set import ClaimSet, parse_object
from attestation.token.jws import ALGORITHM, decode_base64, decode_base64url, encode_base64url

MAXIMUM_BYTES: Final = 128 * 1024
_MAXIMUM_KEYS = 64
_MAXIMUM_CERTIFICATE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An issuer's key. `thumbprint` is RFC 7638's (SHA-256), `certificate` what the set holds for it, if anything."""

    key: rsa.RSAPublicKey
    thumbprint: bytes
    certificate: x509.Certificate | None


def select_key(endorsements: tuple[bytes, ...], kid: str) -> SigningKey | None:
    """The one key with this id in the one key set; None if there is no key set.

    Raises `EvidenceMalformed` for endorsements that are none, `EvidenceUncheckable` if the set has no such key,
    `EvidenceNotAuthentic` for a key that isn't for RS256 signatures.
    """
    if not endorsements:
        return None
    sets = [_parse(data, f"endorsement {index}") for index, data in enumerate(endorsements)]
    if len(sets) != 1:
        raise EvidenceMalformed("endorsements", expected="one key set", found=str(len(sets)))
    found = [key for key in sets[0] if key.optional_text("kid") == kid]
    if not found:
        raise EvidenceUncheckable("kid", expected=f"a key {ascii(kid)[:80]} in the key set", found="none")
    if len(found) > 1:
        raise EvidenceMalformed("kid", expected="one key with this id", found=str(len(found)))
    return _signing_key(found[0])


def thumbprint(key: rsa.RSAPublicKey) -> bytes:
    """SHA-256 over the key's canonical JSON (RFC 7638 section 3)."""
    numbers = key.public_numbers()
    members = {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
    return sha256(rfc8785.dumps(members)).digest()


def _parse(data: bytes, field: str) -> list[ClaimSet]:
    if len(data) > MAXIMUM_BYTES:
        raise EvidenceMalformed(field, expected=f"at most {MAXIMUM_BYTES} bytes", found=str(len(data)))
    if data.lstrip(b" \t\r\n")[:1] != b"{":
        raise EvidenceMalformed(field, expected="a JSON Web Key Set", found="something else, which nothing here needs")
    keys = parse_object(data, field).get("keys")
    if not isinstance(keys, list) or not 1 <= len(keys) <= _MAXIMUM_KEYS:
        raise EvidenceMalformed(f"{field}.keys", expected=f"1 to {_MAXIMUM_KEYS} keys", found=type(keys).__name__)
    if not all(isinstance(key, dict) for key in keys):
        raise EvidenceMalformed(f"{field}.keys", expected="objects", found="something else")
    return [ClaimSet(key, f"{field}.keys[{index}]") for index, key in enumerate(keys)]


def _signing_key(claims: ClaimSet) -> SigningKey:
    for name, allowed in (("kty", ("RSA",)), ("use", ("sig", None)), ("alg", (ALGORITHM, None))):
        if (found := claims.optional_text(name)) not in allowed:
            raise EvidenceNotAuthentic(claims.path(name), expected=str(allowed[0]), found=ascii(found)[:80])
    certificate = _certificate(claims)
    key = _certified_key(claims, certificate)
    if certificate is None or claims.has("n"):
        bare = _bare_key(claims)
        if key is not None and key != bare:
            raise EvidenceMalformed(claims.path("x5c"), expected="the key that n and e say", found="another one")
        key = bare
    if key is None:
        raise EvidenceMalformed(claims.path("n"), expected="a key", found="none")
    return SigningKey(key=key, thumbprint=thumbprint(key), certificate=certificate)


def _certificate(claims: ClaimSet) -> x509.Certificate | None:
    chain = claims.texts("x5c")
    if not chain:
        return None
    path = claims.path("x5c")
    der = decode_base64("".join(chain[0].split()), path)
    if len(der) > _MAXIMUM_CERTIFICATE_BYTES:
        raise EvidenceMalformed(path, expected=f"at most {_MAXIMUM_CERTIFICATE_BYTES} bytes", found=str(len(der)))
    return load_certificate(der, path)


def _certified_key(claims: ClaimSet, certificate: x509.Certificate | None) -> rsa.RSAPublicKey | None:
    if certificate is None:
        return None
    key = key_of(certificate, RSA_SHA256)
    if not isinstance(key, rsa.RSAPublicKey):
        raise EvidenceNotAuthentic(claims.path("x5c"), expected="an RSA key", found="another")
    return key


def _bare_key(claims: ClaimSet) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(decode_base64url(claims.text("n").encode("utf-8"), claims.path("n")))
    exponent = int.from_bytes(decode_base64url(claims.text("e").encode("utf-8"), claims.path("e")))
    if modulus.bit_length() not in RSA_BITS or exponent != RSA_EXPONENT:
        raise EvidenceNotAuthentic(claims.path("n"), expected=RSA_SHA256.key_in_words, found="another size or exponent")
    try:
        return rsa.RSAPublicNumbers(e=exponent, n=modulus).public_key()
    except ValueError as error:
        raise EvidenceMalformed(claims.path("n"), expected="an RSA modulus", found="no such number") from error


def _integer(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8)).decode("ascii")
