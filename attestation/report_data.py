"""`report_data`: the 64 bytes by which evidence commits to who asks, under which agreement, for which keys.

Both sides compute it from what they hold themselves and compare; it is never read out of evidence. Called by whoever
collects evidence and by whoever appraises it.
"""

from collections.abc import Mapping
from hashlib import sha512
from typing import Final

from attestation.encoding import labelled, labelled_digest

REPORT_DATA_BYTES = 64
APPLIANCE: Final = "appliance"
SILO: Final = "silo"
GENESIS: Final = "genesis"
BOOT: Final = "boot"
ROTATION: Final = "rotation"
RECOVERY: Final = "recovery"
ENROLMENT: Final = "enrolment"
_ROLES = (APPLIANCE, SILO)
_PURPOSES = (GENESIS, BOOT, ROTATION, RECOVERY, ENROLMENT)


def report_data(
    *,
    role: str,
    purpose: str,
    party: str,
    agreement: bytes,
    boot_id: bytes,
    nonce: bytes,
    keys: Mapping[str, bytes],
) -> bytes:
    """The 64 bytes that evidence must carry: SHA-512 over every input, labelled and length-prefixed.

    `role` is "appliance" or "silo", `purpose` "genesis", "boot", "rotation", "recovery" or "enrolment", `party` the
    name in the agreement.
    `agreement`, `boot_id` and `nonce` have 32 bytes: the agreement's digest, the appliance's boot id, and the
    verifier's nonce or `unattended_nonce`. `keys` are public keys (or what else is committed to) by role name; their
    order does not matter. Raises `ValueError` for anything else: these are our own inputs.
    """
    _one_of("role", role, _ROLES)
    _one_of("purpose", purpose, _PURPOSES)
    for name, value in (("agreement", agreement), ("boot_id", boot_id), ("nonce", nonce)):
        _32_bytes(name, value)
    if not party:
        raise ValueError("party: expected a name, found none")
    if not keys or not all(name and key for name, key in keys.items()):
        raise ValueError("keys: expected at least one, each with a name and a value")
    pairs = [field for name in sorted(keys) for field in (name.encode(), keys[name])]
    fields = (role.encode(), purpose.encode(), party.encode(), agreement, boot_id, nonce, *pairs)
    return sha512(labelled("strongroom/report-data/v1", *fields)).digest()


def unattended_nonce(agreement: bytes, boot_id: bytes) -> bytes:
    """The nonce (32 bytes) of evidence that goes into the log, which no verifier has asked for yet.

    A function of the agreement's digest and the boot id (32 bytes each): the freshness of such evidence is that of
    the boot id.
    """
    _32_bytes("agreement", agreement)
    _32_bytes("boot_id", boot_id)
    return labelled_digest("strongroom/unattended-nonce/v1", agreement, boot_id)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(allowed)}, found {value!r}")


def _32_bytes(name: str, value: bytes) -> None:
    if len(value) != 32:
        raise ValueError(f"{name}: expected 32 bytes, found {len(value)}")
