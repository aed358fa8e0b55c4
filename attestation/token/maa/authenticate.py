"""The middle floor: who signed this token? From a parsed token to one whose signature verifies.

A token is authentic only as far as its key and its issuer are those that the reference values pin, because its key
comes along with it: the next floor begins with that (`appraise`).

The checklist, by the numbers above each block:

 1. the header is that of an RS256 JWT and asks for nothing else; its `jku` is the issuer's own and is never asked;
 2. one key set came beside it, and nothing else;
 3. the key is the one that `kid` names;
 4. the certificate that the key set holds for it, if any, is valid at `now`;
 5. the token's RS256 signature verifies under that key;
 6. the token's version is known;
 7. `iat`, `nbf` and `exp` at `now`.

Sources: RFC 7515, RFC 7519, RFC 8725; Microsoft, "Azure Attestation: token" and "Claim sets".
"""

from dataclasses import dataclass
from datetime import datetime

from attestation.check import Check
from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic, EvidenceUncheckable
from attestation.token.jwks import SigningKey
from attestation.token.jws import Jws
from attestation.token.maa.token import VERSION, MaaToken
from attestation.token.published_key import verify_published


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticToken:
    """A token with a verified signature, by a key that is still to be compared. Made by `authenticate` only."""

    token: MaaToken
    signing_key: SigningKey
    now: datetime
    checks: tuple[Check, ...]


def authenticate(jws: Jws, endorsements: tuple[bytes, ...], now: datetime) -> AuthenticToken:
    """Verify a token's signature under the key that it names, and its dates, at the aware time `now`.

    Raises `EvidenceMalformed`, `EvidenceNotAuthentic`, and `EvidenceUncheckable` if the key did not come along.
    """
    checks = Checklist(EvidenceNotAuthentic)
    # 1. the header
    with checks.line(1):
        header = jws.require_header(allowed=("kid", "jku"))
        jku, issuer = header.optional_text("jku"), jws.payload.get("iss")
        if jku is not None and jku != f"{issuer}/certs":
            raise EvidenceNotAuthentic("jku", expected="the issuer's own, or none", found=ascii(jku)[:120])
    checks.passed(1, "header", "RS256, JWT, kid and the issuer's jku at most", "as expected")

    signing_key = verify_published(checks, jws, header, endorsements, now)

    # 6. the version
    token = MaaToken.read(jws.payload)
    checks.require(token.version == VERSION, 6, "x-ms-ver", VERSION, ascii(token.version)[:80])

    # 7. dates
    token.lifetime.require_current(checks, 7, now)
    if signing_key is None:
        missing = EvidenceUncheckable("endorsements", expected="the issuer's key set", found="none")
        raise checks.failed(missing, 2)
    return AuthenticToken(token=token, signing_key=signing_key, now=now, checks=checks.made())
