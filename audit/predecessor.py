"""Reading a log that has ended, for the one that goes on from it: verified whole, before a word of it is believed.

Called by the appliance's enclave at its genesis, and by `strongroom agreement predecessor`. Trusts the successor's
agreement, which names the old one by digest.
"""

from dataclasses import dataclass, replace
from hashlib import sha256

from audit.agreed import quorum_of
from audit.entries import Entry, KeyRotated, LogGenesis, LogRecovered, LogSuperseded, Predecessor, RoundPublished
from audit.inventory import Inventory
from audit.key_claims import Claims
from audit.log_files import LogFiles
from audit.log_keys import LogKeys
from audit.merkle import inclusion_proof
from audit.note import Checkpoint
from audit.quorum import QuorumError
from audit.report import AuditVerdict
from audit.resources import LogDamagedError, read_checkpoint_at, read_object
from audit.succession import SuccessionProof
from audit.tiled_nodes import TiledNodes
from audit.verify import Told, verify
from protocol.agreement import Agreement
from protocol.errors import SignatureError
from protocol.fields import format_digest
from protocol.session import LoggedEntry
from protocol.succession import SuccessionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a log: what leaf 0 of its successor says of it, and the objects that it names, in any order."""

    entry: Predecessor
    objects: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a verified log has come: rounds published and the content digest of the newest model."""

    rounds: int
    model: bytes


def read_end(files: LogFiles, new: Agreement) -> Ended:
    """Verify the predecessor's log and take its end.

    What is read after the audit (the end, its proof, a checkpoint) is for `audit.succession.check_begun` to verify.
    Raises `SuccessionError` if the log is not PASS, or has not ended for this successor with a quorum; `StoreError`.
    """
    if new.predecessor is None:
        raise SuccessionError("expected an agreement with a [predecessor], found none in it")
    old_text = _object(files, new.predecessor.agreement)
    old = Agreement.parse(old_text, "the predecessor's agreement")
    genesis: list[LogGenesis] = []
    changes: list[tuple[int, KeyRotated | LogRecovered]] = []
    ends: list[tuple[int, LogSuperseded]] = []

    def take(index: int, entry: Entry) -> None:
        if isinstance(entry, LogGenesis):
            genesis.append(entry)
        elif isinstance(entry, KeyRotated | LogRecovered):
            changes.append((index, entry))
        elif isinstance(entry, LogSuperseded):
            ends.append((index, entry))

    size = _require_pass(files, old, take)
    if not ends:
        raise SuccessionError(
            "the predecessor's log has not ended: expected a log.superseded entry, found none; start its appliance "
            "with --successor and --approvals, and let its silos cosign"
        )
    [(index, superseded)] = ends
    if superseded.successor != new.digest:
        raise SuccessionError(
            f"the predecessor's log has ended for {format_digest(superseded.successor)}, "
            f"this agreement is {format_digest(new.digest)}"
        )
    # The audit has seen each of these changes shown.
    keys = Claims(changes=tuple(changes), size=size).keys(old.log.origin, genesis[0].keys.log_key)
    checkpoint = _cosigned(files, old, keys, index)
    tree = TiledNodes(files, checkpoint.size)
    logged = LoggedEntry(index=index, entry=tree.entry(index), hashes=inclusion_proof(tree, index, checkpoint.size))
    proof = SuccessionProof(note=checkpoint.note.encode().decode(), superseded=logged).encode()
    return Ended(
        entry=Predecessor(
            agreement=old.digest,
            origin=old.log.origin,
            log_key=keys.at(checkpoint.size).public,
            size=checkpoint.size,
            root=checkpoint.root,
            rounds=superseded.rounds,
            model=superseded.model,
            privacy_spent=0.0,
            proof=sha256(proof).digest(),
        ),
        objects=(old_text, proof, _object(files, superseded.approvals)),
    )


def read_standing(files: LogFiles, agreement: Agreement) -> Standing:
    """Verify a log, and say what a successor would go on from; raises `SuccessionError`, `StoreError`."""
    standing = Standing(rounds=0, model=agreement.model.initial)

    def take(_: int, entry: Entry) -> None:
        nonlocal standing
        if isinstance(entry, RoundPublished):
            standing = Standing(rounds=entry.round, model=entry.model_out)
        elif isinstance(entry, LogRecovered):
            standing = replace(standing, model=entry.model)

    _require_pass(files, agreement, take)
    if not standing.rounds:
        raise SuccessionError("no round was published yet: expected one to go on from; begin a new federation instead")
    return standing


def _require_pass(files: LogFiles, agreement: Agreement, told: Told) -> int:
    """Audit a log; `told` takes its entries. Returns how many; raises `SuccessionError` unless it passes."""
    report = verify(files, agreement, told=told)
    if report.verdict is not AuditVerdict.PASS:
        why = report.divergence or next(iter(report.missing), "it has no checkpoint")
        raise SuccessionError(f"the log of {agreement.log.origin} does not verify: {report.verdict}: {why}")
    return report.counts.entries


def _cosigned(files: LogFiles, old: Agreement, keys: LogKeys, index: int) -> Checkpoint:
    """The smallest checkpoint over entry `index` that the old quorum has cosigned."""
    quorum = quorum_of(old)
    for size in Inventory.take(files.listed()).notes:
        if size <= index:
            continue
        checkpoint = read_checkpoint_at(files, size)
        try:
            quorum.verify(checkpoint, keys.at(checkpoint.size))
        except (QuorumError, SignatureError):
            continue
        return checkpoint
    raise SuccessionError(
        f"the predecessor's log has ended, and no quorum has cosigned that: expected a checkpoint of over {index} "
        f"entries by {quorum}; leave its appliance running until its silos have been there"
    )


def _object(files: LogFiles, digest: bytes) -> bytes:
    try:
        return read_object(files, digest)
    except LogDamagedError as error:
        raise SuccessionError(f"the predecessor's log: {error}") from error
