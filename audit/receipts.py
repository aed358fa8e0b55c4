"""What silos kept, held against the log: one history, or a file that convicts somebody.

A receipt proves that the log once had an entry at an index, under a checkpoint that the log's key signed. Anybody can
make files that look like one, so that a receipt convicts a log only if its own proof leads to its own checkpoint and
the log's key signed that; everything else is named as what proves nothing.

    checkpoint                       verdict
    of this log's tree               it is in this history, and its entry where it says
    of another tree of that size     FAIL: two histories
    larger than the log              FAIL: the log was rolled back, or cut
    not signed, or no proof          INCOMPLETE: the file is named

Bounded: a hash and a name a receipt, and every checkpoint once. Trusts nothing in the files. Called by `audit.verify`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from audit.entries import (
    Entry,
    RoundAbandoned,
    RoundPublished,
    SiloAdmitted,
    UpdateAccepted,
    parse_entry,
)
from audit.findings import Findings
from audit.heads import Heads
from audit.kept import Kept, SiloKept, Unused
from audit.merkle import ProofError, TreeHead, leaf_hash, verify_inclusion
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.receipt_files import HandedIn, NotUnderstood
from audit.report import Line
from audit.resources import checkpoint_name
from audit.right_edge import RightEdge
from protocol.agreement_toml import printable
from protocol.errors import MalformedError, SignatureError

_MAXIMUM_UNUSED = 20
_OPEN = "neither used nor abandoned where the log ends"


@dataclass(slots=True)
class _Receipt:
    """One receipt whose proof leads to its checkpoint. `same`: whether the log has this entry at its index."""

    name: str
    index: int
    leaf: bytes
    entry: Entry | None
    same: bool | None = None


@dataclass(slots=True)
class _Signed:
    """One checkpoint of the receipts below it. `head`: this log's, at its size, once it is reached."""

    checkpoint: Checkpoint
    receipts: list[_Receipt] = field(default_factory=list)
    head: TreeHead | None = None
    refused: str | None = None


class Receipts:
    """Reads what was handed in, watches the log go by, and concludes."""

    def __init__(self, *, handed_in: Iterable[HandedIn | NotUnderstood], heads: Heads, findings: Findings) -> None:
        self._heads = heads
        self._findings = findings
        self.files = 0
        self._by_size: dict[int, dict[bytes, _Signed]] = {}
        self._by_index: dict[int, list[_Receipt]] = {}
        self._fates: dict[int, str | None] = {}
        self._open: list[int] = []
        self._accepted: Counter[str] = Counter()
        for file in handed_in:
            self.files += 1
            try:
                self._take(file)
            except (MalformedError, ProofError) as error:
                self._proves_nothing(file.name, printable(str(error)))

    def _take(self, file: HandedIn | NotUnderstood) -> None:
        if isinstance(file, NotUnderstood):
            self._findings.uncheckable(Line.TRUST, file.problem, resource=file.name)
            return
        proof, leaf = Receipt.parse(file.proof), leaf_hash(file.entry)
        verify_inclusion(leaf=leaf, index=proof.index, proof=proof.proof, head=proof.checkpoint.head)
        receipt = _Receipt(name=file.name, index=proof.index, leaf=leaf, entry=_parsed(file.entry))
        signed = self._by_size.setdefault(proof.checkpoint.size, {})
        signed.setdefault(proof.checkpoint.encode(), _Signed(proof.checkpoint)).receipts.append(receipt)
        self._by_index.setdefault(proof.index, []).append(receipt)

    def checkpoints(self, edge: RightEdge) -> None:
        """The log's tree at its present size; while the key in force there is the one that `heads` believes."""
        for signed in self._by_size.get(edge.size, {}).values():
            signed.head = edge.head()
            self._verify(signed)

    def leaf(self, index: int, data: bytes) -> None:
        """The bytes of each entry."""
        for receipt in self._by_index.get(index, ()):
            receipt.same = receipt.leaf == leaf_hash(data)

    def follow(self, index: int, entry: Entry) -> None:
        """Every entry that was replayed: what became of the updates that there are receipts of."""
        if isinstance(entry, UpdateAccepted):
            self._accepted[entry.silo] += 1
            if index in self._by_index:
                self._fates[index] = _OPEN
                self._open.append(index)
        elif isinstance(entry, RoundPublished | RoundAbandoned):
            fate = f"abandoned ({entry.reason})" if isinstance(entry, RoundAbandoned) else None
            self._fates |= dict.fromkeys(self._open, fate)
            self._open.clear()

    def conclude(self, *, newest: int, signed_size: int) -> Kept:
        """Say what does not fit. `signed_size`: up to where the log's entries are known to be what it signed."""
        held: list[_Receipt] = []
        stored = frozenset(self._heads.sizes)
        for size in sorted(self._by_size):
            for signed in self._by_size[size].values():
                if size > newest:
                    self._verify(signed)
                    self._larger(signed, newest)
                elif signed.head is not None and self._fits(signed, signed_size):
                    held += signed.receipts
                    if size not in stored:
                        problem = f"expected it, as the one in {signed.receipts[0].name} is of this size, found none"
                        self._findings.uncheckable(Line.TRUST, problem, resource=checkpoint_name(size))
        return Kept(files=self.files, held=len(held), silos=tuple(self._of_silos(held)))

    def _verify(self, signed: _Signed) -> None:
        try:
            self._heads.require_signed(signed.checkpoint)
        except SignatureError as error:
            signed.refused = printable(str(error))

    def _larger(self, signed: _Signed, newest: int) -> None:
        size = signed.checkpoint.size
        for receipt in signed.receipts:
            if signed.refused is not None:
                self._proves_nothing(receipt.name, signed.refused)
            else:
                problem = f"this log had {size} entries once, and now has {newest}: it was rolled back, or cut"
                self._findings.damaged(Line.TRUST, receipt.name, problem)

    def _fits(self, signed: _Signed, signed_size: int) -> bool:
        size = signed.checkpoint.size
        for receipt in signed.receipts:
            if signed.refused is not None:
                self._proves_nothing(receipt.name, signed.refused)
            elif signed.head == signed.checkpoint.head:
                continue
            elif size > signed_size:
                # The entries are damaged, which is named already; they convict nobody.
                self._findings.uncheckable(
                    Line.TRUST, "not compared: the log's entries are not what it signed", resource=receipt.name
                )
            else:
                which = "has this entry" if receipt.same else "has another entry"
                problem = (
                    f"this log {which} at {receipt.index}, and its first {size} entries are not the ones that the "
                    "receipt's checkpoint signs: two histories"
                )
                self._findings.damaged(Line.TRUST, receipt.name, problem)
        return signed.refused is None and signed.head == signed.checkpoint.head

    def _of_silos(self, held: list[_Receipt]) -> Iterable[SiloKept]:
        """One line a silo that a receipt names; the same receipt in two folders counts once."""
        receipts: dict[str, dict[int, Entry]] = {}
        for receipt in held:
            if isinstance(receipt.entry, SiloAdmitted | UpdateAccepted):
                receipts.setdefault(receipt.entry.silo, {})[receipt.index] = receipt.entry
        for silo, entries in sorted(receipts.items()):
            updates = sorted((i, entry) for i, entry in entries.items() if isinstance(entry, UpdateAccepted))
            unused = [
                Unused(entry=i, round=entry.round, attempt=entry.attempt, fate=fate)
                for i, entry in updates
                if (fate := self._fates.get(i, "not replayed")) is not None
            ]
            yield SiloKept(
                silo=silo,
                receipts=len(entries),
                updates=len(updates),
                accepted=self._accepted[silo],
                unused_count=len(unused),
                unused=tuple(unused[:_MAXIMUM_UNUSED]),
            )

    def _proves_nothing(self, name: str, problem: str) -> None:
        self._findings.uncheckable(Line.TRUST, f"{problem}; it proves nothing of this log", resource=name)


def _parsed(data: bytes) -> Entry | None:
    """The entry, if this reader knows its kind: what it is in counts all the same."""
    try:
        return parse_entry(data)
    except MalformedError:
        return None
