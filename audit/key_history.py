"""Following a log from a key that is known to the one that signs now, one change after the other.

Pure. Trusts the key that the caller knows, his head, and the agreement; `verify_grants` judges what silos signed for a
recovery. Each change shows itself, so that it doesn't matter who hands it over. Called by silos whose appliance has
another log key than the one they know, and by whoever holds two checkpoints of one log against each other.

Numbered checks on each change, repeated below:

1. it is a `key.rotated` or `log.recovered` entry of this agreement, by which the key that is known hands over to
   another (`previous`), at an index that the head before has not reached
2. the checkpoint beside it covers it, and is of this log and signed by the new key
3. the entry is in that checkpoint's tree
4. after a rotation, the key before has signed the same checkpoint, which extends the head before
5. after a recovery, the entry's base (`size`, `root`) extends the head before and is no smaller, the checkpoint extends
   the base, and the grants are for this very entry
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from audit.entries import KeyRotated, LogRecovered, parse_entry
from audit.log_keys import LogKeys
from audit.merkle import EMPTY_ROOT, ProofError, TreeHead, leaf_hash, verify_consistency, verify_inclusion
from audit.note import Checkpoint
from protocol.agreement import Agreement
from protocol.errors import MalformedError, ProtocolError, SignatureError
from protocol.key_history import KeyChange, KeyHistory
from protocol.session import Consistency

NOTHING = TreeHead(size=0, root=EMPTY_ROOT)


class KeyChangeError(ProtocolError):
    """A change of the log's key that does not follow from what is known; says which, and why."""


class VerifyGrants(Protocol):
    """Raises a `ProtocolError` unless `grants` (the object's bytes) authorise this recovery under the agreement."""

    def __call__(self, agreement: Agreement, entry: LogRecovered, grants: bytes) -> None: ...


def no_recovery(agreement: Agreement, entry: LogRecovered, grants: bytes) -> None:
    """For who cannot judge grants: no recovery is followed."""
    raise KeyChangeError(f"a recovery of the log {agreement.log.origin!r}, which can't be judged here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Where a history of keys has led: all keys now known, and the checkpoint that the newest change stands under."""

    keys: LogKeys
    checkpoint: Checkpoint


def follow(
    history: KeyHistory,
    *,
    agreement: Agreement,
    keys: LogKeys,
    head: TreeHead = NOTHING,
    verify_grants: VerifyGrants = no_recovery,
) -> Followed:
    """Verify the changes in their order; raises `KeyChangeError`, also where there are none.

    `keys`: those known so far; `head`: the newest head that was verified under them.
    """
    checkpoint: Checkpoint | None = None
    for change in history.changes:
        try:
            keys, checkpoint = _follow(change, agreement, keys, head, verify_grants)
        except (MalformedError, SignatureError, ProofError) as error:
            raise KeyChangeError(f"entry {change.logged.index}: {error}") from error
        head = checkpoint.head
    if checkpoint is None:
        raise KeyChangeError("expected a change of the log's key, found none")
    return Followed(keys=keys, checkpoint=checkpoint)


def _follow(
    change: KeyChange, agreement: Agreement, keys: LogKeys, head: TreeHead, verify_grants: VerifyGrants
) -> tuple[LogKeys, Checkpoint]:
    # 1
    entry, index = parse_entry(change.logged.entry), change.logged.index
    if not isinstance(entry, KeyRotated | LogRecovered):
        raise MalformedError(f"expected key.rotated or log.recovered, found {entry.KIND}")
    if entry.agreement != agreement.digest:
        raise MalformedError("expected a change under this agreement, found one under another")
    if entry.previous != keys.current.public:
        raise MalformedError("expected the key that is known to hand over, found another's successor")
    if index < head.size:
        raise MalformedError(f"expected a change after the {head.size} entries that are known")
    changed = keys.after(index, entry)
    # 2
    checkpoint = Checkpoint.parse(change.checkpoint.encode())
    if checkpoint.size <= index:
        raise MalformedError(f"expected a checkpoint that covers it, found one of {checkpoint.size} entries")
    checkpoint.verify(changed.current)
    # 3
    verify_inclusion(leaf=leaf_hash(change.logged.entry), index=index, proof=change.logged.hashes, head=checkpoint.head)
    if isinstance(entry, KeyRotated):
        # 4
        try:
            checkpoint.verify(keys.current)
        except SignatureError as error:
            raise SignatureError("a rotation without the old key's signature") from error
        _extends(change.consistency, head, checkpoint.head)
        if change.base is not None or change.grants is not None:
            raise MalformedError("expected no grants beside a rotation")
        return changed, checkpoint
    # 5
    if change.base is None or change.grants is None:
        raise MalformedError("expected grants and the proof of their base beside a recovery")
    if entry.size != index:
        raise MalformedError(f"expected a recovery at its base's size {entry.size}")
    base = TreeHead(size=entry.size, root=entry.root)
    _extends(change.consistency, head, base)
    _extends(change.base, base, checkpoint.head)
    if sha256(change.grants).digest() != entry.grants:
        raise MalformedError("expected the grants that the entry names, found others")
    verify_grants(agreement, entry, change.grants)
    return changed, checkpoint


def _extends(consistency: Consistency, old: TreeHead, new: TreeHead) -> None:
    if consistency.size != old.size:
        raise ProofError(f"consistency: expected a proof from size {old.size}, found one from {consistency.size}")
    verify_consistency(old=old, new=new, proof=consistency.hashes)
