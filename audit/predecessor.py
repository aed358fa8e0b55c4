"""Reading a log that has ended, for the one that goes on from it: verified whole, before a word of it is believed.

Called by the appliance's enclave at its genesis, and by `strongroom agreement predecessor`. Trusts the successor's
agreement, which names the old one by digest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from audit.agreed import quorum_of
from audit.entries import LogGenesis, LogRecovered, LogSuperseded, Predecessor, RoundPublished, parse_entry
from audit.inventory import Inventory
from audit.key_claims import claims_in
from audit.log_files import LogFiles
from audit.log_keys import LogKeys
from audit.merkle import Tree, inclusion_proof, leaf_hash
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint
from audit.quorum import QuorumError
from audit.report import AuditVerdict
from audit.resources import checkpoint_name, object_name, tile_name
from audit.store import MAXIMUM_READ_BYTES, StoreError
from audit.succession import SuccessionProof
from audit.tiles import entry_bundles, parse_bundle
from audit.verify import verify
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

    Raises `SuccessionError` if it is not PASS, or has not ended for this successor with a quorum; `StoreError` if it
    can't be read.
    """
    if new.predecessor is None:
        raise SuccessionError("expected an agreement with a [predecessor], found none in it")
    old_text = _object(files, new.predecessor.agreement)
    old = Agreement.parse(old_text, "the predecessor's agreement")
    entries = _verified_entries(files, old)
    tree, end = Tree(), None
    for index, data in enumerate(entries):
        entry = parse_entry(data)
        tree.append(leaf_hash(data))
        if isinstance(entry, LogSuperseded):
            end = (index, data, entry)
    if end is None:
        raise SuccessionError(
            "the predecessor's log has not ended: expected a log.superseded entry, found none; start its appliance "
            "with --successor and --approvals, and let its silos cosign"
        )
    index, data, superseded = end
    if superseded.successor != new.digest:
        raise SuccessionError(
            f"the predecessor's log has ended for {format_digest(superseded.successor)}, "
            f"this agreement is {format_digest(new.digest)}"
        )
    genesis = parse_entry(entries[0])
    if not isinstance(genesis, LogGenesis):
        raise SuccessionError(f"the predecessor's log begins with {genesis.KIND}, not with log.genesis")
    # The audit has seen each of these changes shown.
    keys = claims_in(entries).keys(old.log.origin, genesis.keys.log_key)
    checkpoint = _cosigned(files, old, keys, index)
    logged = LoggedEntry(index=index, entry=data, hashes=inclusion_proof(tree, index, checkpoint.size))
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
            proof=_digest(proof),
        ),
        objects=(old_text, proof, _object(files, superseded.approvals)),
    )


def read_standing(files: LogFiles, agreement: Agreement) -> Standing:
    """Verify a log, and say what a successor would go on from; raises as `read_end` does."""
    rounds, model = 0, agreement.model.initial
    for data in _verified_entries(files, agreement):
        entry = parse_entry(data)
        if isinstance(entry, RoundPublished):
            rounds, model = entry.round, entry.model_out
        elif isinstance(entry, LogRecovered):
            model = entry.model
    if not rounds:
        raise SuccessionError("no round was published yet: expected one to go on from; begin a new federation instead")
    return Standing(rounds=rounds, model=model)


def _verified_entries(files: LogFiles, agreement: Agreement) -> list[bytes]:
    """All entries of a log that passes the audit, checked once more against the root that passed."""
    report = verify(files, agreement)
    if report.verdict is not AuditVerdict.PASS or report.newest is None:
        why = report.divergence or next(iter(report.missing), "it has no checkpoint")
        raise SuccessionError(f"the log of {agreement.log.origin} does not verify: {report.verdict}: {why}")
    entries = list(_entries(files, report.newest.size))
    tree = Tree()
    for data in entries:
        tree.append(leaf_hash(data))
    if tree.head().root != report.newest.root:
        raise SuccessionError("the predecessor's log changed while it was read: give a copy of its store")
    return entries


def _entries(files: LogFiles, size: int) -> Iterator[bytes]:
    stored = Inventory.take(files.listed()).tiles
    for bundle in entry_bundles(size):
        source = bundle if bundle in stored else bundle.full
        data = files.read(tile_name(source), limit_bytes=MAXIMUM_READ_BYTES)
        yield from parse_bundle(data, width=source.width)[: bundle.width]


def _cosigned(files: LogFiles, old: Agreement, keys: LogKeys, index: int) -> Checkpoint:
    """The smallest checkpoint over entry `index` that the old quorum has cosigned."""
    quorum = quorum_of(old)
    for size in Inventory.take(files.listed()).notes:
        if size <= index:
            continue
        checkpoint = Checkpoint.parse(files.read(checkpoint_name(size), limit_bytes=MAXIMUM_NOTE_BYTES))
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
    data = files.read(object_name(digest), limit_bytes=MAXIMUM_READ_BYTES)
    if _digest(data) != digest:
        raise StoreError(f"{object_name(digest)}: expected SHA-256 {digest.hex()}, found {_digest(data).hex()}")
    return data


def _digest(data: bytes) -> bytes:
    return sha256(data).digest()
