"""A session's messages: what an admitted silo and the enclave say to each other between enrolment and the end.

    silo → enclave   Join, Cosigned, Declined
    enclave → silo   CosignRequest, WantInitial, Announcement
    and in answer to an upload: UploadAccepted (or a refusal)

The gateway's courier speaks for a further witness in the same words: Join, Cosigned and Declined, and CosignRequest.

None of these is trusted for itself: checkpoints and cosignatures are signed notes, entries come with inclusion
proofs, model keys are signed and sealed. What is unsigned here can only deny service.
"""

from dataclasses import dataclass

from protocol.errors import MalformedError
from protocol.record import Bytes, Count, Digest, Id16, Name, Note, Record, Text, kind_of

_LIMIT = 2**18
# What silos say is short; what a named one sends instead must not keep a processor busy.
_FROM_SILO_LIMIT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending(Record):
    """An update that a silo has sealed and whose outcome it doesn't know yet."""

    round: Count
    attempt: Count
    upload_id: Id16


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Record, kind="join", limit_bytes=_FROM_SILO_LIMIT):
    """The silo is ready: the log size that it knows (0 at first) and its pending update."""

    head: Count
    pending: Pending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned(Record, kind="cosigned", limit_bytes=_FROM_SILO_LIMIT):
    """The silo's cosignature line over the checkpoint of `size` entries (C2SP cosignature/v1)."""

    size: Count
    line: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Record, kind="declined", limit_bytes=_FROM_SILO_LIMIT):
    """The silo does not cosign, and why: the log was rolled back, forked, or is another one."""

    size: Count
    code: Name
    reason: Text


class Proof(Record):
    """Base of proofs: RFC 6962 hashes, 32 bytes each."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency(Proof):
    """From the log of `size` entries, which the silo knows, to the checkpoint beside it."""

    size: Count
    hashes: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry(Proof):
    """An entry's bytes and its inclusion proof in the checkpoint beside it."""

    index: Count
    entry: Bytes
    hashes: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignRequest(Record, kind="cosign", limit_bytes=_LIMIT):
    """Please cosign: the newest checkpoint, and its consistency with the silo's head."""

    checkpoint: Note
    consistency: Consistency


@dataclass(frozen=True, slots=True, kw_only=True)
class LostModel(Record):
    """What shows that the appliance lost its model: the `log.recovered` entry that names it, and a checkpoint."""

    recovered: LoggedEntry
    checkpoint: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class WantInitial(Record, kind="want-initial", limit_bytes=_LIMIT):
    """Please upload the model with this content: the agreement's initial one, or the one that is `lost`."""

    digest: Digest
    lost: LostModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body(Record):
    """A sealed blob to download: its name at the gateway, its digest, and the signed wrap of its key."""

    name: Text
    digest: Digest
    key: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement(Record, kind="announcement", limit_bytes=2**20):
    """A round to train (`opened` is a `round.opened` entry) or the end (a `log.closed` entry).

    `checkpoint` carries the quorum's cosignatures and covers every entry here. `outcome` is the terminal entry
    (published or abandoned) of the attempt that the silo said was pending. `control` is null while c = 0.
    """

    checkpoint: Note
    consistency: Consistency
    opened: LoggedEntry
    outcome: LoggedEntry | None
    model: Body
    control: Body | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAccepted(Record, kind="upload-accepted", limit_bytes=_LIMIT):
    """The enclave opened the upload and found it good; `receipt` is a `tlog-proof` of `entry`, null for INITIAL."""

    entry: Bytes | None
    receipt: Note | None


FromSilo = Join | Cosigned | Declined
ToSilo = CosignRequest | WantInitial | Announcement

_FROM_SILO: tuple[type[FromSilo], ...] = (Join, Cosigned, Declined)
_TO_SILO: tuple[type[ToSilo], ...] = (CosignRequest, WantInitial, Announcement)


def parse_from_silo(data: bytes) -> FromSilo:
    """Read one message of a silo; raises `MalformedError`."""
    kind, _ = kind_of(data, _FROM_SILO_LIMIT)
    for message in _FROM_SILO:
        if kind == message.KIND:
            return message.parse(data)
    raise MalformedError(f"session: expected a silo's message, found kind {kind[:40]!r}")


def parse_to_silo(data: bytes) -> ToSilo:
    """Read one message of the enclave; raises `MalformedError`."""
    kind, _ = kind_of(data)
    for message in _TO_SILO:
        if kind == message.KIND:
            return message.parse(data)
    raise MalformedError(f"session: expected the enclave's message, found kind {kind[:40]!r}")
