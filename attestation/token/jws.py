"""Compact JSON Web Signatures, as attestation services issue them: one algorithm, no choices.

Trusts nothing: a token that parses is still to be verified (`verify`), under a key that the caller has chosen.

Hand-written over `cryptography`, because what a token may choose in JOSE's libraries is what their CVEs were about
(algorithms, unknown `crit` headers, embedded keys), because those libraries read the clock themselves, and because what
is left without choices is the sixty lines below. Sources: RFC 7515 sections 3 and 5.2; RFC 7518 section 3.3; RFC 8725.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic
from attestation.token.claim_set import ClaimSet, parse_object

MAXIMUM_BYTES: Final = 64 * 1024
ALGORITHM: Final = "RS256"
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jws:
    """A token in its parts. `signing_input` are the bytes as they came, which the signature covers."""

    header: Mapping[str, object]
    payload: Mapping[str, object]
    signing_input: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> "Jws":
        """Read header.payload.signature: strict base64url, the first two JSON objects. Raises `EvidenceMalformed`."""
        if len(data) > MAXIMUM_BYTES:
            raise EvidenceMalformed("token", expected=f"at most {MAXIMUM_BYTES} bytes", found=str(len(data)))
        parts = data.split(b".")
        if len(parts) != 3:
            raise EvidenceMalformed("token", expected="three parts between dots", found=str(len(parts)))
        header, payload, signature = parts
        return cls(
            header=parse_object(decode_base64url(header, "header"), "header"),
            payload=parse_object(decode_base64url(payload, "payload"), "payload"),
            signing_input=header + b"." + payload,
            signature=decode_base64url(signature, "signature"),
        )

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        return self.signing_input + b"." + encode_base64url(self.signature)

    def require_header(self, *, allowed: tuple[str, ...]) -> ClaimSet:
        """The header, if it is one for RS256 with members that are `allowed` beside `alg` and `typ`, and no others.

        An unknown member may ask for anything (`crit`), or bring a key (`jwk`, `x5u`). Raises `EvidenceNotAuthentic`.
        """
        header = ClaimSet(self.header)
        for name, expected in (("alg", ALGORITHM), ("typ", "JWT")):
            if self.header.get(name) != expected:
                raise EvidenceNotAuthentic(name, expected=expected, found=ascii(self.header.get(name))[:80])
        if unknown := sorted(self.header.keys() - {"alg", "typ", *allowed}):
            raise EvidenceNotAuthentic(
                "header", expected=f"no members but alg, typ, {', '.join(allowed)}", found=ascii(unknown[0])[:80]
            )
        return header

    def verify(self, key: rsa.RSAPublicKey, signer: str) -> None:
        """RSASSA-PKCS1-v1_5 with SHA-256 over the signing input; raises `EvidenceNotAuthentic`."""
        try:
            key.verify(self.signature, self.signing_input, padding.PKCS1v15(), SHA256())
        except InvalidSignature as error:
            raise EvidenceNotAuthentic("signature", expected=f"one by {signer}", found="does not verify") from error


def decode_base64url(text: bytes, field: str) -> bytes:
    """Base64url without padding, in its one spelling; raises `EvidenceMalformed` naming `field`."""
    if _BASE64URL.fullmatch(text) and len(text) % 4 != 1:
        data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        if encode_base64url(data) == text:
            return data
    raise EvidenceMalformed(field, expected="base64url without padding", found=ascii(text[:40])[2:-1])


def encode_base64url(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decode_base64(text: str, field: str) -> bytes:
    """Standard base64 with padding, in its one spelling; raises `EvidenceMalformed` naming `field`."""
    try:
        data = base64.b64decode(text, validate=True)
        if base64.b64encode(data).decode("ascii") == text:
            return data
    except ValueError:
        pass
    raise EvidenceMalformed(field, expected="standard base64", found=ascii(text[:40])[1:-1])
