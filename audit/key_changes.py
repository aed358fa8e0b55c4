"""The log's changes of key, as the audit meets them: claimed in a first look at the entries, shown in the walk.

Nothing is believed because it is claimed. The claims say under which key to read a checkpoint; the walk then finds each
of the entries again under a signed root, the transition table and the evidence have taken it, and here it must show:

1. it is the entry that was claimed there
2. a rotation: the first checkpoint that covers it is signed by the key before and the new one
3. a recovery: its base is the log before it, and the grants that it names are for it

Pure but for the objects that it reads. Called by `audit.verify`.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from audit.divergence import DivergenceError
from audit.entries import Entry, KeyRotated, LogRecovered
from audit.findings import Findings
from audit.heads import Head
from audit.key_claims import Claims
from audit.key_history import VerifyGrants
from audit.log_keys import LogKeys
from audit.merkle import TreeHead
from audit.named_objects import NamedObjects
from audit.note import VerifierKey
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import ProtocolError, SignatureError
from protocol.keys import VerifyingKey


class KeyChanges:
    """Watches entries and checkpoints in the order of the log. `keys`: those that the entries claim."""

    NOT_KEPT: ClassVar = frozenset({"keys", "_agreement", "_claimed", "_verify_grants", "_objects", "_findings"})

    def __init__(
        self,
        *,
        agreement: Agreement,
        first: VerifyingKey,
        claims: Claims,
        verify_grants: VerifyGrants,
        objects: NamedObjects,
        findings: Findings,
    ) -> None:
        self.keys: LogKeys = claims.keys(agreement.log.origin, first)
        self._agreement = agreement
        self._claimed = dict(claims.changes)
        self._verify_grants = verify_grants
        self._objects = objects
        self._findings = findings
        self._due: list[tuple[int, KeyRotated]] = []

    def entry(self, index: int, entry: Entry, before: Callable[[], TreeHead]) -> None:
        """An entry that the transition table has taken; `before`: the log up to it. Raises `DivergenceError`."""
        # 1
        claimed = self._claimed.get(index)
        if claimed != (entry if isinstance(entry, KeyRotated | LogRecovered) else None):
            raise DivergenceError(index, entry.KIND, "another entry than a moment ago: the store is being changed")
        if claimed is None or not isinstance(entry, KeyRotated | LogRecovered):
            return
        if isinstance(entry, KeyRotated):
            self._due.append((index, entry))
            former, key = VerifyingKey(entry.previous), entry.keys.log_key
            self._findings.note(f"entry {index} ({entry.KIND}): the log's key {former} handed over to {key}")
        else:
            self._recovered(index, entry, before())

    def claimed_below(self, size: int) -> list[tuple[int, KeyRotated | LogRecovered]]:
        """What the first `size` entries claim."""
        return [(index, entry) for index, entry in self._claimed.items() if index < size]

    def checkpoint(self, heads: Sequence[Head]) -> None:
        """The checkpoints of one size that are of this tree, in the log's order; raises `DivergenceError`."""
        if not heads:
            return
        due, self._due = self._due, []
        for index, entry in due:
            # 2. That the new key has signed is why they are authentic.
            former = VerifierKey.of_log(self._agreement.log.origin, VerifyingKey(entry.previous))
            if not any(_signed(head, former) for head in heads):
                raise DivergenceError(
                    index,
                    entry.KIND,
                    "a rotation without the old key's signature: expected both keys to have signed the first "
                    f"checkpoint that covers it, found {heads[0].name} signed by the new key alone",
                )

    def _recovered(self, index: int, entry: LogRecovered, before: TreeHead) -> None:
        # 3
        if entry.root != before.root:
            raise DivergenceError(index, entry.KIND, "root: expected that of the entries before it, found another")
        grants = self._objects.get(entry.grants, "the silos' grants", entry=index, kind=entry.KIND)
        if grants is None:
            return
        try:
            self._verify_grants(self._agreement, entry, grants)
        except ProtocolError as error:
            raise DivergenceError(index, entry.KIND, f"grants: {printable(str(error))}") from error
        former, key = VerifyingKey(entry.previous), entry.keys.log_key
        self._findings.note(f"entry {index} ({entry.KIND}): the log's key {former} was lost, and silos granted {key}")


def _signed(head: Head, key: VerifierKey) -> bool:
    try:
        head.checkpoint.verify(key)
    except SignatureError:
        return False
    return True
