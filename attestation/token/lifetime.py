"""When a token counts: its dates against the time given, never against a clock of ours.

Source: RFC 7519 section 4.1.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from attestation.checklist import Checklist
from attestation.errors import EvidenceMalformed
from attestation.token.claim_set import ClaimSet

LEEWAY: Final = timedelta(seconds=30)
"""How far the issuer's clock may be ahead of ours. None is given after the expiry."""
_YEAR_9999 = 253_370_764_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """A token's dates, UTC."""

    issued_at: datetime
    not_before: datetime
    expires_at: datetime

    @classmethod
    def read(cls, claims: ClaimSet) -> "Lifetime":
        """`iat`, `nbf` and `exp` in whole seconds, all there; raises `EvidenceMalformed`."""
        issued_at, not_before, expires_at = (
            datetime.fromtimestamp(claims.integer(name, maximum=_YEAR_9999), UTC) for name in ("iat", "nbf", "exp")
        )
        if not issued_at < expires_at:
            raise EvidenceMalformed("exp", expected="a time after iat", found=expires_at.isoformat())
        return cls(issued_at=issued_at, not_before=not_before, expires_at=expires_at)

    def require_current(self, checks: Checklist, number: int, now: datetime) -> None:
        """Issued, begun and not yet over at the aware time `now`."""
        latest = now + LEEWAY
        checks.require(self.issued_at <= latest, number, "iat", _until(latest), self.issued_at.isoformat())
        checks.require(self.not_before <= latest, number, "nbf", _until(latest), self.not_before.isoformat())
        checks.require(
            now < self.expires_at, number, "exp", f"a time after {now.isoformat()}", self.expires_at.isoformat()
        )

    def require_age(self, checks: Checklist, number: int, maximum_age_seconds: int, now: datetime) -> None:
        """Issued at most so many seconds before the aware time `now`."""
        oldest = now - timedelta(seconds=maximum_age_seconds)
        checks.require(
            self.issued_at >= oldest,
            number,
            "maximum_age_seconds",
            f"{maximum_age_seconds}, issued {oldest.isoformat()} or later",
            self.issued_at.isoformat(),
        )


def _until(time: datetime) -> str:
    return f"a time until {time.isoformat()}"
