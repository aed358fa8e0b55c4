"""Challenges: the nonces that silos' evidence must answer. Stateless to issue, used once.

A challenge is expiry(8) ‖ random(8) ‖ MAC(16) under a key of this boot, so that handing them out costs no memory;
only those that came back under a valid identity signature are remembered, until they expire.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256

from attestation.encoding import labelled
from protocol.errors import RefusalCode, refuse

LIFETIME_SECONDS = 120
_LABEL = "strongroom/challenge/v1"


class Challenges:
    """Issues and redeems challenges for one boot."""

    def __init__(self, *, boot_id: bytes, random: Callable[[int], bytes]) -> None:
        self._boot_id = boot_id
        self._random = random
        self._key = random(32)
        self._used: dict[bytes, int] = {}

    def issue(self, silo: str, now: int) -> bytes:
        """A fresh 32-byte challenge for one silo."""
        body = (now + LIFETIME_SECONDS).to_bytes(8, "big") + self._random(8)
        return body + self._mac(silo, body)

    def redeem(self, silo: str, challenge: bytes, now: int) -> None:
        """Use up a challenge; raises `RefusedError` (stale-nonce) if it isn't ours, expired, or was used."""
        body, mac = challenge[:16], challenge[16:]
        if not hmac.compare_digest(mac, self._mac(silo, body)):
            raise _stale("one that this boot of the appliance issued to this silo", "a foreign one")
        expiry = int.from_bytes(body[:8], "big")
        if now >= expiry:
            raise _stale(f"one at most {LIFETIME_SECONDS} s old", f"one that expired {now - expiry} s ago")
        if challenge in self._used:
            raise _stale("one that was not used yet", "one that was used before")
        self._used = {nonce: end for nonce, end in self._used.items() if end > now}
        self._used[challenge] = expiry

    def _mac(self, silo: str, body: bytes) -> bytes:
        return hmac.digest(self._key, labelled(_LABEL, silo.encode(), self._boot_id, body), sha256)[:16]


def _stale(expected: str, found: str) -> Exception:
    return refuse(
        RefusalCode.STALE_NONCE, expected=f"a challenge: {expected}", found=found, remedy="enrol again from the start"
    )
