"""How a silo that knows a former log key learns of its successors: two messages beside enrolment.

    `Catchup`      silo → appliance   signed with the identity key that the agreement names; sent where `Hello` is
    `KeyHistory`   appliance → silo   unsigned: each change of the key shows itself (`audit.key_history`)

All of it is in the log, which is public. What is unsigned here can only deny service.
"""

from dataclasses import dataclass

from protocol.errors import MalformedError
from protocol.record import Bytes, Count, Digest, Key32, Name, Note, Record, kind_of
from protocol.session import Consistency, LoggedEntry
from protocol.signed import unverified_body

CATCHUP_LABEL = "strongroom/catchup/v1"
MAXIMUM_CHANGES = 8
"""How many changes one answer holds; a silo that needs more asks again, from the newest key that it then knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catchup(Record, kind="catchup", limit_bytes=4096):
    """Which changes came after `log_key`, for a silo that knows the log's first `head` entries?"""

    silo: Name
    agreement: Digest
    log_key: Key32
    head: Count


def is_catchup(message: bytes) -> bool:
    """Whether a signed message says that it is a `Catchup`, before anything about it is verified."""
    try:
        return kind_of(unverified_body(message), Catchup.LIMIT_BYTES)[0] == Catchup.KIND
    except MalformedError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange(Record):
    """A `key.rotated` or `log.recovered` entry, and what shows that it changed the log's key.

    `checkpoint` covers the entry; it is signed by both keys after a rotation, by the new one after a recovery. A
    rotation's `consistency` leads to it from the head before: the silo's own at first, then the former change's
    `checkpoint`. A recovery's leads from that head to the entry's base, `base` from there to `checkpoint`, and `grants`
    is the object that the entry names.
    """

    logged: LoggedEntry
    checkpoint: Note
    consistency: Consistency
    base: Consistency | None
    grants: Bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHistory(Record, kind="key-history", limit_bytes=2**22):
    """The changes after the key that was asked about, in the log's order; the first `MAXIMUM_CHANGES` of them."""

    changes: tuple[KeyChange, ...]
