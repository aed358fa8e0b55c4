"""The log's entries: what the enclave writes down, one canonical JSON object each.

The leaf is the stored bytes. Big things (evidence, requests, sealed state) are content-addressed objects beside
the log and stand here by digest. No norms, no losses: the log is read by many. `time` is what the enclave's
untrusted clock said, in unix seconds, and nothing depends on it but credentials' expiry.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol import canonical
from protocol.enrolment import ApplianceKeys
from protocol.errors import MalformedError
from protocol.fields import Fields
from protocol.record import Bytes, Count, Decimal, Digest, Id16, Id32, Key32, Name, Record, Text, kind_in

ENTRY_LIMIT_BYTES = 65_535


class Entry(Record, limit_bytes=ENTRY_LIMIT_BYTES):
    """Base of all entries. Each has its `time`, which never runs backwards."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def time(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor(Record):
    """Where the log of the agreement before ended: its agreement, name and key, and its tree with that end in it.

    `rounds` and `model`: what it had published, and the content digest of the last one. `proof` is an object
    (`audit.succession.SuccessionProof`).
    """

    agreement: Digest
    origin: Text
    log_key: Key32
    size: Count
    root: Id32
    rounds: Count
    model: Digest
    privacy_spent: Decimal
    proof: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LogGenesis(Entry, kind="log.genesis"):
    """Leaf 0: the log key, and the appliance's own evidence for it (object `evidence`; purpose "genesis").

    `predecessor`: the log that this one goes on from, if the agreement succeeds another.
    """

    time: Count
    agreement: Digest
    origin: Text
    boot_id: Id32
    keys: ApplianceKeys
    evidence: Digest
    state: Digest
    predecessor: Predecessor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplianceStarted(Entry, kind="appliance.started"):
    """A boot of the enclave, with its evidence (purpose "boot"); every admission before it is void."""

    time: Count
    agreement: Digest
    boot_id: Id32
    keys: ApplianceKeys
    evidence: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotated(Entry, kind="key.rotated"):
    """A new log key, which the `previous` one hands over to; the boot's `appliance.started` follows it.

    The first checkpoint that covers it is signed by both keys, and no later one by the previous key. `evidence` is for
    `keys` (purpose "rotation"), `state` the sealed state that holds the new key.
    """

    time: Count
    agreement: Digest
    boot_id: Id32
    keys: ApplianceKeys
    evidence: Digest
    previous: Key32
    state: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecovered(Entry, kind="log.recovered"):
    """A new log key after the `previous` one was lost; the boot's `appliance.started` follows it.

    The silos' grants (object `grants`) stand in for the lost key: they are over the log of `size` entries with `root`,
    and this entry is the next one. `evidence` is for `keys` (purpose "recovery"). Training goes on from `model`.
    """

    time: Count
    agreement: Digest
    boot_id: Id32
    keys: ApplianceKeys
    evidence: Digest
    previous: Key32
    size: Count
    root: Id32
    model: Digest
    grants: Digest
    state: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloAdmitted(Entry, kind="silo.admitted"):
    """A silo's enrolment request was accepted. `request` is the signed request's object, evidence included."""

    time: Count
    boot_id: Id32
    silo: Name
    owner: Name
    jurisdiction: Text
    tee: Name
    request: Digest
    expires: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloRefused(Entry, kind="silo.refused"):
    """A named silo's signed request was refused."""

    time: Count
    boot_id: Id32
    silo: Name
    code: Name
    request: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOpened(Entry, kind="round.opened"):
    """One attempt at a round: what silos train on, and the key that they seal their updates to."""

    time: Count
    boot_id: Id32
    round: Count
    attempt: Count
    round_key: Bytes
    model: Digest
    control: Digest | None
    control_epoch: Count
    strategy: Name
    local_steps: Count
    learning_rate: Decimal
    server_learning_rate: Decimal
    deadline_seconds: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAccepted(Entry, kind="update.accepted"):
    """A complete update was opened and found good; `update` is the sealed blob's digest."""

    time: Count
    round: Count
    attempt: Count
    silo: Name
    upload_id: Id16
    update: Digest
    parent: Id16 | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRefused(Entry, kind="update.refused"):
    """A complete update by an admitted silo was opened and found bad; the round goes on."""

    time: Count
    round: Count
    attempt: Count
    silo: Name
    upload_id: Id16
    code: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortMember(Record):
    """One used update; `weight` is the agreement's."""

    silo: Name
    upload_id: Id16
    update: Digest
    weight: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCommitted(Entry, kind="round.committed"):
    """The attempt's one cohort, in the agreement's order, durable before any aggregate exists."""

    time: Count
    round: Count
    attempt: Count
    cohort: tuple[CohortMember, ...]
    privacy_charge: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPublished(Entry, kind="round.published"):
    """The round's result: content digests in and out, and the updates that it used. `state` is the sealed state."""

    time: Count
    round: Count
    attempt: Count
    model_in: Digest
    model_out: Digest
    control_in: Digest | None
    control_out: Digest | None
    cohort: tuple[CohortMember, ...]
    state: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundAbandoned(Entry, kind="round.abandoned"):
    """The attempt ends without a result; the reasons are in `audit.phases`. `silo` is whose bytes changed, if any."""

    time: Count
    round: Count
    attempt: Count
    reason: Name
    silo: Name | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReset(Entry, kind="control.reset"):
    """A silo lost its control variate: c and all c_i become zero, and every parent is forgotten."""

    time: Count
    epoch: Count
    silo: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class LogClosed(Entry, kind="log.closed"):
    """All rounds that the agreement asked for are published; `model` is the final model's content digest."""

    time: Count
    boot_id: Id32
    rounds: Count
    model: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSuperseded(Entry, kind="log.superseded"):
    """The federation goes on under another agreement: object `successor`, approved in object `approvals`.

    `rounds` and `model`: what was published here, and the content digest of the last one, which is carried over.
    """

    time: Count
    boot_id: Id32
    successor: Digest
    rounds: Count
    model: Digest
    approvals: Digest


class UnknownEntryError(MalformedError):
    """A kind or version that this reader does not know: an audit is INCOMPLETE, never PASS."""


_KINDS: dict[str, type[Entry]] = {
    str(kind.KIND): kind
    for kind in (
        LogGenesis,
        ApplianceStarted,
        KeyRotated,
        LogRecovered,
        SiloAdmitted,
        SiloRefused,
        RoundOpened,
        UpdateAccepted,
        UpdateRefused,
        RoundCommitted,
        RoundPublished,
        RoundAbandoned,
        ControlReset,
        LogClosed,
        LogSuperseded,
    )
}


def parse_entry(data: bytes) -> Entry:
    """Read one leaf. Raises `UnknownEntryError` for a kind or version we don't know, else `MalformedError`."""
    table = canonical.decode(data, limit_bytes=ENTRY_LIMIT_BYTES)
    kind, version = kind_in(table)
    known = _KINDS.get(kind)
    if known is None or version != known.VERSION:
        raise UnknownEntryError(f"entry: unknown kind {kind[:63]!r} version {version}; a newer reader may know it")
    return known.read(Fields(table, kind))
