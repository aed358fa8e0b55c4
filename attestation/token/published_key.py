"""Tokens under a key that their issuer publishes: the key comes along in a key set, and the agreement pins it.

The signature alone proves nothing, because the set comes from the peer: `require_pinned` is the second half of it, and
every appraisal begins there. No address in a token (`jku`) is ever asked for a key.
"""

from datetime import datetime

from attestation.chain import require_dates
from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic
from attestation.token.claim_set import ClaimSet
from attestation.token.jwks import SigningKey, select_key
from attestation.token.jws import Jws


def verify_published(
    checks: Checklist, jws: Jws, header: ClaimSet, endorsements: tuple[bytes, ...], now: datetime
) -> SigningKey | None:
    """Lines 2 to 5 of both checklists: the key set, the key that `kid` names, its certificate's dates, the signature.

    Returns None where no key set came along: the caller may still find the token wrong in its own words, and must not
    find it right. Raises `EvidenceMalformed`, `EvidenceNotAuthentic`, `EvidenceUncheckable`.
    """
    # 2. and 3. the key set, and the key in it
    with checks.line(2):
        kid = header.text("kid")
        signing_key = select_key(endorsements, kid)
    if signing_key is None:
        return None
    name = ascii(kid)[1:-1][:80]
    checks.passed(2, "endorsements", "one key set", "one")
    checks.passed(3, "kid", "a key in the key set", name)

    # 4. dates; a key that comes without a certificate has none
    if signing_key.certificate is not None:
        require_dates(checks, 4, (signing_key.certificate,), now)

    # 5. the signature
    with checks.line(5):
        jws.verify(signing_key.key, f"the key {name}")
    checks.passed(5, "signature", f"RS256 under the key {name}", "verified")
    return signing_key


def require_pinned(checks: Checklist, number: int, signing_key: SigningKey, pinned: tuple[bytes, ...]) -> None:
    """The key is one that the reference values name; raises `EvidenceNotAuthentic` naming `signing_keys`."""
    expected, found = " or ".join(thumbprint.hex() for thumbprint in pinned), signing_key.thumbprint.hex()
    if signing_key.thumbprint not in pinned:
        raise checks.failed(EvidenceNotAuthentic("signing_keys", expected=expected, found=found), number)
    checks.passed(number, "signing_keys", expected, found)
