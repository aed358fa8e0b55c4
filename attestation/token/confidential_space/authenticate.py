"""The middle floor: who signed this token? From a parsed token to one that Google's service vouches for.

Trusts the root that it is given and nothing in the token. A token under a published key (OIDC) is authentic only as far
as its key is Google's, which the reference values say: the next floor begins with that (`appraise`).

The checklist, by the numbers above each block:

 1. the header is that of an RS256 JWT and asks for nothing else;
 2. what came beside it: nothing for a PKI token, one key set for an OIDC token;
 3. the key: a PKI token's chain (x5c: leaf, intermediates, root) ends in the pinned root, byte for byte, and each
    certificate may issue the one before and did (RSA, SHA-256); an OIDC token's key is the one that its `kid` names;
 4. certificates are valid at `now`;
 5. the token's RS256 signature verifies under that key;
 6. the issuer is Google's service, exactly;
 7. `iat`, `nbf` and `exp` at `now`.

Sources: RFC 7515, RFC 7519, RFC 8725; Google, "Validate PKI and OIDC tokens" (Confidential Space documentation).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.certificates import load_certificate, subject
from attestation.chain import RSA_SHA256, key_of, require_dates, require_root, verify_links
from attestation.check import Check
from attestation.checklist import Checklist
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic, EvidenceUncheckable
from attestation.token.claim_set import ClaimSet
from attestation.token.confidential_space.token import ConfidentialSpaceToken
from attestation.token.jwks import SigningKey
from attestation.token.jws import Jws, decode_base64
from attestation.token.published_key import verify_published

ISSUER: Final = "https://confidentialcomputing.googleapis.com"
_MAXIMUM_CHAIN = 5
_MAXIMUM_CERTIFICATE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticToken:
    """A token with a verified signature. Made by `authenticate` only.

    `signing_key` is the key of an OIDC token, which is still to be compared with the pinned ones; None where Google's
    root vouches for the key.
    """

    token: ConfidentialSpaceToken
    signing_key: SigningKey | None
    now: datetime
    checks: tuple[Check, ...]


def authenticate(jws: Jws, endorsements: tuple[bytes, ...], root: x509.Certificate, now: datetime) -> AuthenticToken:
    """Verify a token's signature under its chain or its key, and its dates, at the aware time `now`.

    Raises `EvidenceMalformed`, `EvidenceNotAuthentic`, and `EvidenceUncheckable` if a token without a chain comes
    without its key.
    """
    checks = Checklist(EvidenceNotAuthentic)
    # 1. the header
    with checks.line(1):
        header = jws.require_header(allowed=("kid", "x5c"))
    checks.passed(1, "header", "RS256, JWT, kid and x5c at most", "as expected")

    if header.has("x5c"):
        signing_key = None
        with checks.line(3):
            _verify_pki(checks, jws, header, endorsements, root, now)
    else:
        signing_key = verify_published(checks, jws, header, endorsements, now)

    # 6. the issuer
    token = ConfidentialSpaceToken.read(jws.payload)
    checks.require(token.issuer == ISSUER, 6, "iss", ISSUER, ascii(token.issuer)[1:-1][:120])

    # 7. dates
    token.lifetime.require_current(checks, 7, now)
    if signing_key is None and not header.has("x5c"):
        missing = EvidenceUncheckable("endorsements", expected="the key set of Google's service", found="none")
        raise checks.failed(missing, 2)
    return AuthenticToken(token=token, signing_key=signing_key, now=now, checks=checks.made())


def _verify_pki(
    checks: Checklist,
    jws: Jws,
    header: ClaimSet,
    endorsements: tuple[bytes, ...],
    root: x509.Certificate,
    now: datetime,
) -> None:
    # 2. no endorsements
    checks.require(not endorsements, 2, "endorsements", "none: the token brings its chain", str(len(endorsements)))

    # 3. the chain
    chain = _chain(header)
    require_root(chain, root)
    verify_links(chain, RSA_SHA256)
    checks.passed(3, "chain", "RSA SHA-256 signatures from the pinned root on", f"{len(chain)} certificates")

    # 4. dates
    require_dates(checks, 4, chain, now)

    # 5. the signature
    with checks.line(5):
        _verify(jws, key_of(chain[0], RSA_SHA256), subject(chain[0]))
    checks.passed(5, "signature", f"RS256 under {subject(chain[0])}", "verified")


def _chain(header: ClaimSet) -> tuple[x509.Certificate, ...]:
    """As x5c has it: the signer's certificate first, the root last."""
    texts = header.texts("x5c")
    if not 1 <= len(texts) <= _MAXIMUM_CHAIN:
        raise EvidenceMalformed("x5c", expected=f"1 to {_MAXIMUM_CHAIN} certificates", found=str(len(texts)))
    chain = []
    for index, text in enumerate(texts):
        der = decode_base64(text, f"x5c[{index}]")
        if len(der) > _MAXIMUM_CERTIFICATE_BYTES:
            raise EvidenceMalformed(
                f"x5c[{index}]", expected=f"at most {_MAXIMUM_CERTIFICATE_BYTES} bytes", found=str(len(der))
            )
        chain.append(load_certificate(der, f"x5c[{index}]"))
    return tuple(chain)


def _verify(jws: Jws, key: object, signer: str) -> None:
    if not isinstance(key, rsa.RSAPublicKey):
        raise EvidenceNotAuthentic("signature", expected="one by an RSA key", found="another kind of key")
    jws.verify(key, signer)
