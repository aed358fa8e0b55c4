"""What may stand in a log once: the keys of boots and attempts, and updates.

Only the log key outlives a boot: whoever has another's keys is a copy of it, or kept what he must not. An update's
digest names its upload id, round and sender, so that one digest twice is one update used twice. Pure; trusts nothing.
Called by the transition table (`audit.replay`), and so by the enclave and the auditor.
"""

from hashlib import sha256

from audit.id_set import IdSet
from protocol.enrolment import ApplianceKeys
from protocol.keys import SEALING_PUBLIC_BYTES

_OF_A_BOOT = ("signing", "sealing", "ca")


class Freshness:
    """The checks name what is wrong, or return None; what is taken is used from then on. Keys are kept as SHA-256."""

    def __init__(self) -> None:
        self._keys = IdSet(32)
        self._updates = IdSet(32)

    def problem_of_boot(self, keys: ApplianceKeys) -> str | None:
        """A boot's own keys are new, and it signs with none of the log's."""
        if keys.signing == keys.log:
            return "signing key: expected one of its own, found the log key"
        used = (role for role, key in _boot_keys(keys).items() if key in self._keys)
        return next((f"{role} key: expected a new one, found one used before" for role in used), None)

    def take_boot(self, keys: ApplianceKeys) -> None:
        for key in _boot_keys(keys).values():
            self._keys.add(key)

    def problem_of_round_key(self, key: bytes) -> str | None:
        """An attempt's key is one, and new."""
        if len(key) != SEALING_PUBLIC_BYTES:
            return f"round key: expected {SEALING_PUBLIC_BYTES} bytes, found {len(key)}"
        return "round key: expected a new one, found one used before" if sha256(key).digest() in self._keys else None

    def take_round_key(self, key: bytes) -> None:
        self._keys.add(sha256(key).digest())

    def problem_of_update(self, digest: bytes) -> str | None:
        """An accepted update is new."""
        return "update: expected a new one, found one accepted before" if digest in self._updates else None

    def take_update(self, digest: bytes) -> None:
        self._updates.add(digest)


def _boot_keys(keys: ApplianceKeys) -> dict[str, bytes]:
    roles = keys.by_role()
    return {role: sha256(roles[role]).digest() for role in _OF_A_BOOT}
