"""The seam between two logs: the end of one, in which its successor is named, and the beginning of the other.

Both logs hold all that it takes to check the seam from their side alone: the other agreement, the approvals of the
silos that continue and, in the new log, the old one's last entry under a checkpoint that the old quorum cosigned.
Pure; trusts the auditor's own agreement and, through its digest, the other one. Called by the enclave before it writes
either entry, and by the audit. What is wrong is a `SuccessionError`, or the `MalformedError` of what doesn't parse.

For leaf 0 of the new log:

1. the proof is of the old agreement's log, at the size and root and under the key that the entry names
2. a quorum of the old owners has cosigned that checkpoint
3. the `log.superseded` entry is in it, and names this agreement, these rounds and this model
4. whoever continues has approved
"""

from collections.abc import Callable
from dataclasses import dataclass

from audit.agreed import log_key_of, quorum_of
from audit.entries import LogSuperseded, Predecessor, parse_entry
from audit.merkle import ProofError, leaf_hash, verify_inclusion
from audit.note import Checkpoint
from audit.quorum import QuorumError
from protocol.agreement import Agreement
from protocol.errors import SignatureError
from protocol.fields import format_digest
from protocol.keys import VerifyingKey
from protocol.record import Note, Record
from protocol.session import LoggedEntry
from protocol.succession import Approvals, SuccessionError, check_approvals

Objects = Callable[[bytes, str], bytes | None]
"""An object by digest (32 bytes) and what it is; None if it is missing, which is noted elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessionProof(Record, kind="succession-proof"):
    """The old log's `log.superseded` entry, included in the checkpoint `note`, with its cosignatures."""

    note: Note
    superseded: LoggedEntry


def check_begun(entry: Predecessor, new: Agreement, objects: Objects) -> None:
    """Run the list above for what leaf 0 says of its predecessor; a missing object ends the check."""
    old_text = objects(entry.agreement, "the predecessor's agreement")
    proof_data = objects(entry.proof, "the proof of the predecessor's end")
    if old_text is None or proof_data is None:
        return
    old = Agreement.parse(old_text, "the predecessor's agreement")
    superseded = verify_end(entry, old, new, SuccessionProof.parse(proof_data))
    # 4
    approvals = objects(superseded.approvals, "the approvals")
    if approvals is not None:
        check_approvals(Approvals.parse(approvals).approvals, old, new)


def verify_end(entry: Predecessor, old: Agreement, new: Agreement, proof: SuccessionProof) -> LogSuperseded:
    """Checks 1 to 3; returns the old log's last word."""
    checkpoint = Checkpoint.parse(proof.note.encode())
    log_key = log_key_of(old, VerifyingKey(entry.log_key))
    # 1
    for what, expected, found in (
        ("name", old.log.origin, entry.origin),
        ("name in its checkpoint", old.log.origin, checkpoint.origin),
        ("size", checkpoint.size, entry.size),
        ("root", checkpoint.root.hex(), entry.root.hex()),
    ):
        if expected != found:
            raise SuccessionError(f"the predecessor's log: {what}: expected {expected}, found {found}")
    try:
        checkpoint.verify(log_key)
        # 2
        quorum_of(old).verify(checkpoint, log_key)
        # 3
        logged = proof.superseded
        verify_inclusion(leaf=leaf_hash(logged.entry), index=logged.index, proof=logged.hashes, head=checkpoint.head)
    except (SignatureError, QuorumError, ProofError) as error:
        raise SuccessionError(f"the predecessor's log: {error}") from error
    superseded = parse_entry(logged.entry)
    if not isinstance(superseded, LogSuperseded):
        raise SuccessionError(f"the predecessor's log: expected its log.superseded entry, found {superseded.KIND}")
    if (superseded.successor, superseded.rounds, superseded.model) != (new.digest, entry.rounds, entry.model):
        raise SuccessionError(
            f"the predecessor's log: expected an end after {entry.rounds} rounds for {format_digest(new.digest)}, "
            f"found one after {superseded.rounds} for {format_digest(superseded.successor)}"
        )
    return superseded


def check_ended(entry: LogSuperseded, old: Agreement, objects: Objects) -> None:
    """Hold the old log's last word against the agreement that it names and its approvals."""
    new_text = objects(entry.successor, "the successor's agreement")
    approvals = objects(entry.approvals, "the approvals")
    if new_text is None or approvals is None:
        return
    new = Agreement.parse(new_text, "the successor's agreement")
    check_approvals(Approvals.parse(approvals).approvals, old, new)
    check_carried(entry.rounds, entry.model, new)


def check_carried(rounds: int, model: bytes, new: Agreement) -> None:
    """The successor goes on from what was published: this many rounds, and this model (content digest)."""
    predecessor = new.predecessor
    if predecessor is None or predecessor.rounds != rounds:
        found = "none" if predecessor is None else predecessor.rounds
        raise SuccessionError(f"successor: [predecessor] rounds: expected {rounds}, as were published, found {found}")
    if new.model.initial != model:
        raise SuccessionError(
            f"successor: [model] initial: expected the model of round {rounds}, {format_digest(model)}, "
            f"found {format_digest(new.model.initial)}"
        )
