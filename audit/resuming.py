"""Going on from a verification that was kept, and keeping one: where an audit that resumes differs from any other.

What was judged before is read and hashed again, and held against the head that was reached then, checkpoints and
objects included; if an entry or a checkpoint is another now, nothing is resumed (`ChangedError`) and the audit begins
at entry 0. Called by the audit, which hands over the parts whose state it is.
"""

from collections.abc import Callable, Iterable, Mapping

from audit.findings import Findings
from audit.heads import Head, Heads
from audit.key_changes import KeyChanges
from audit.named_objects import NamedObjects
from audit.replay import History
from audit.report import AuditVerdict
from audit.resumption import READER, Resumption, restore, state_of
from audit.walk import TreeWalk
from protocol.agreement import Agreement

KEEP_EVERY_ENTRIES = 2**16
Keep = Callable[[Resumption], None]


class ChangedError(Exception):
    """What was verified before is not what is here now: it has to be verified again."""


class Resuming:
    """`resumed`: what to go on from. `keep` is handed what to go on from next, now and then and at the end."""

    def __init__(
        self,
        *,
        agreement: Agreement,
        heads: Heads,
        objects: NamedObjects,
        keys: KeyChanges,
        parts: Mapping[str, object],
        findings: Findings,
        resumed: Resumption | None,
        keep: Keep | None,
    ) -> None:
        self._agreement = agreement
        self._heads = heads
        self._objects = objects
        self._keys = keys
        self._parts = parts
        self._findings = findings
        self._pending = resumed
        self._keep = keep
        self._kept = 0 if resumed is None else resumed.size
        if resumed is not None and resumed.reader != READER:
            raise ChangedError(f"were verified by another version of this reader ({resumed.reader}, this is {READER})")

    def passes(self, walk: TreeWalk) -> bool:
        """Whether the entry at the tree's present size was judged before; at the first that was not, takes up there."""
        if self._pending is None:
            return False
        if walk.edge.size < self._pending.size:
            for head in self._heads.pass_over(walk.edge.size):
                walk.holds(head.checkpoint.head, head.name)
            return True
        self._take_up(walk, self._pending)
        return False

    def conclude(self, walk: TreeWalk) -> None:
        """After the walk: what was judged before must have been there."""
        if self._pending is not None:
            self._take_up(walk, self._pending)

    def offer(self, walk: TreeWalk, held: Iterable[Head], *, last: bool) -> None:
        """A head was held: keep it if nothing is wrong so far, and if it is time."""
        size = walk.edge.size
        if self._keep is None or not (last or size - self._kept >= KEEP_EVERY_ENTRIES):
            return
        if not walk.clean or self._findings.verdict is not AuditVerdict.PASS:
            return
        for head in held:
            state = {name: state_of(part) for name, part in self._parts.items()}
            # The checkpoints of this size are judged again the next time: they may gain cosignatures until then.
            settled = self._heads.settled
            state["heads"] = {"verified": settled.verified}
            self._kept = size
            self._keep(
                Resumption(
                    agreement=self._agreement.digest,
                    reader=READER,
                    checkpoint=head.checkpoint,
                    notes=settled.notes,
                    state=state,
                )
            )
            return

    def _take_up(self, walk: TreeWalk, resumed: Resumption) -> None:
        self._pending = None
        if walk.edge.head() != resumed.checkpoint.head:
            raise ChangedError("are not those that were verified before")
        if self._heads.notes_so_far() != resumed.notes:
            raise ChangedError("have other checkpoints, or more cosignatures, than when they were verified before")
        state = dict(resumed.state)
        self._heads.verified = restored_count(state.pop("heads", {}))
        if state.keys() != self._parts.keys():
            raise ChangedError("were verified by another version of this reader")
        for name, part in self._parts.items():
            restore(part, state[name])
        history = self._parts["history"]
        if isinstance(history, History) and history.key_changes != self._keys.claimed_below(resumed.size):
            raise ChangedError("are being changed")
        self._objects.check_again(resumed.size)
        self._findings.note(
            f"the first {resumed.size} entries were judged before, and were not judged again: their bytes and their "
            "checkpoints are those of then"
        )


def restored_count(state: Mapping[str, object]) -> int:
    """How many checkpoints were verified."""
    verified = state.get("verified")
    if not isinstance(verified, int):
        raise ChangedError("were verified by another version of this reader")
    return verified
