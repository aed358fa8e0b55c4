"""`strongroom audit verify`: what a stranger, years later, can say of a log with nothing but the agreement in hand.

Pure but for reading the files. Trusts the auditor's own copy of the agreement, the roots of trust that ship with
`attestation`, and nothing in the store: no key, no file name, no size. The checklist, whose numbers stand in
`audit.report.Line` and again at the blocks below:

1. AGREEMENT   the agreement parses (by whom `verify` is called) and the log is of this agreement
2. FILES       every file is accounted for, and every tile is what the entries make, byte for byte
3. TRUST       the evidence in leaf 0 vouches for the log key, and each key for the next; every checkpoint is signed by
               the key of its size, is of this log and this tree, and cosigned by nobody but the agreement's silos and
               witnesses; what silos kept is in it (`audit.receipts`)
4. ENTRIES     every entry parses, follows from the ones before (`audit.replay`), and no time runs backwards
5. EVIDENCE    every boot and every admission holds up again; refusals of named silos have true reasons
6. RELEASES    no attempt was answered before a quorum had cosigned what it rests on
7. OBJECTS     whatever an entry names by digest is there, and is that

PASS: all of it holds. FAIL: something contradicts; the replay ends at the first entry that does not follow, and damaged
files are named all the same. INCOMPLETE: something is missing or unknown to this reader, and nothing contradicts.
How the evidence stands as of another day (`audit.doubts`) is said beside the verdict, which is that of the history.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from audit.bundle import AGREEMENT
from audit.checklist import check_lines
from audit.divergence import DivergenceError
from audit.doubts import Doubts, OtherDay
from audit.ending import ending
from audit.entries import Entry, LogGenesis, LogRecovered, UnknownEntryError, parse_entry
from audit.evidence import EvidenceAgain
from audit.findings import MAXIMUM_FINDINGS, Findings
from audit.grants import require_newest, verify_grants
from audit.heads import Head, Heads
from audit.inventory import Inventory
from audit.kept import Kept
from audit.key_changes import KeyChanges
from audit.key_claims import claims_in
from audit.log_files import LogFiles
from audit.merkle import TreeHead
from audit.named_objects import NamedObjects
from audit.not_checked import not_checked
from audit.note import Checkpoint
from audit.receipt_files import HandedIn, NotUnderstood
from audit.receipts import Receipts
from audit.release import Releases
from audit.replay import History
from audit.replayed import Replayed
from audit.report import AuditReport, Line, NewestCheckpoint
from audit.resources import CHECKPOINT
from audit.resuming import ChangedError, Keep, Resuming
from audit.resumption import Resumption
from audit.walk import TreeWalk
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from protocol.fields import format_digest
from protocol.keys import VerifyingKey

Progress = Callable[[int, int], None]
Told = Callable[[int, Entry], None]
"""Takes each entry, with its index, that follows from the ones before and whose evidence held."""

_PROGRESS_EVERY = 64


def verify(
    files: LogFiles,
    agreement: Agreement,
    *,
    kept: Mapping[str, Checkpoint] = MappingProxyType({}),
    receipts: Iterable[HandedIn | NotUnderstood] | None = None,
    other_day: OtherDay | None = None,
    progress: Progress | None = None,
    told: Told | None = None,
    resumed: Resumption | None = None,
    keep: Keep | None = None,
) -> AuditReport:
    """Audit one log.

    `kept`: checkpoints of this log that somebody has kept, by a name for the report: the log must still hold them,
    which is how a roll-back shows. `receipts`: what silos have kept, None if nobody was asked. `other_day`: when, and
    by which lists, the evidence is to be appraised once more. `progress` is told (entries done, entries in all) now and
    then, `told` each entry that holds. `resumed`: what an earlier audit under this agreement kept, to go on from there;
    it counts among `kept`, and is no more than that where `receipts`, `other_day` or `told` need every entry. `keep` is
    handed what to go on from the next time. Raises `StoreError` for a directory that can't be listed; whatever else is
    wrong with the store is in the report.
    """

    def audit(resumed: Resumption | None) -> _Audit:
        return _Audit(
            files, agreement, kept, receipts, other_day, progress or (lambda done, total: None), told, resumed, keep
        )

    if resumed is None:
        return audit(None).run()
    kept = {**kept, "the head of the verification before": resumed.checkpoint}
    try:
        if receipts is not None or other_day is not None or told is not None:
            raise ChangedError("are needed for what else was asked")
        return audit(resumed).run()
    except ChangedError as changed:
        again = audit(None)
        again.note(f"the first {resumed.size} entries {changed}, and all were judged again")
        return again.run()


class _Audit:
    def __init__(
        self,
        files: LogFiles,
        agreement: Agreement,
        kept: Mapping[str, Checkpoint],
        receipts: Iterable[HandedIn | NotUnderstood] | None,
        other_day: OtherDay | None,
        progress: Progress,
        told: Told | None,
        resumed: Resumption | None,
        keep: Keep | None,
    ) -> None:
        self._agreement = agreement
        self._heads_kept = len(kept)
        self._progress = progress
        self._told = told
        self._findings = Findings()
        self._files = files
        # Names before contents: a log that grows meanwhile then has files that are not listed, and never the reverse.
        self._inventory = Inventory.take(files.listed())
        self._heads = Heads(
            files=files, inventory=self._inventory, agreement=agreement, kept=kept, findings=self._findings
        )
        self._objects = NamedObjects(files=files, inventory=self._inventory, findings=self._findings)
        self._doubts = None if other_day is None else Doubts(agreement=agreement, day=other_day)
        self._evidence = EvidenceAgain(
            agreement=agreement, objects=self._objects, findings=self._findings, doubts=self._doubts
        )
        self._receipts = Receipts(handed_in=receipts or (), heads=self._heads, findings=self._findings)
        self._kept: Kept | None = None if receipts is None else Kept(files=self._receipts.files, held=0, silos=())
        self._releases = Releases(self._heads.quorum, self._note_release, self._findings)
        self._history = History(agreement)
        self._replayed = Replayed()
        self._resuming: Resuming
        self._resumed, self._keep = resumed, keep
        self._replaying = True
        self._line = Line.ENTRIES
        self._divergence: DivergenceError | None = None
        self._reached: set[Line] = set()
        self._newest: Head | None = None
        self._leaf_0 = b""
        self._keys: KeyChanges | None = None

    def note(self, text: str) -> None:
        """Something worth knowing that is no fault."""
        self._findings.note(text)

    def run(self) -> AuditReport:
        self._account_for_names()
        sizes = self._heads.sizes
        if not sizes:
            if not self._inventory.has_checkpoint:
                self._findings.uncheckable(Line.TRUST, "expected a checkpoint, found none", resource=CHECKPOINT)
        else:
            log_key = self._believe(sizes[-1])
            if log_key is not None:
                keys = self._follow_keys(log_key, sizes[-1])
                self._newest = self._heads.newest()
                if self._newest is not None:
                    self._walk(self._newest, keys)
        self._objects.conclude(complete=Line.OBJECTS in self._reached)
        return self._report()

    # 2

    def _account_for_names(self) -> None:
        if self._files.agreement is not None and self._files.agreement != self._agreement.source:
            problem = f"expected agreement {format_digest(self._agreement.digest)}, found another in the bundle"
            self._findings.damaged(Line.AGREEMENT, AGREEMENT, problem)
        for name, what in self._inventory.unknown:
            self._findings.uncheckable(Line.FILES, what, resource=name)
        for name in self._inventory.temporary:
            self._findings.note(f"{name}: left by a write that did not end, and part of nothing")

    # 1 and 3

    def _believe(self, size: int) -> VerifyingKey | None:
        """The log key, once leaf 0's evidence vouches for it; None, and noted, if there is nothing to believe."""
        walk = TreeWalk(files=self._files, inventory=self._inventory, size=size, heads=(), findings=self._findings)
        first = walk.first_entry()
        if first is None:
            self._findings.uncheckable(Line.TRUST, "expected leaf 0, which no stored entry bundle holds", entry=0)
            return None
        bundle, leaf = first
        self._leaf_0 = leaf
        other = walk.other_first_hash(leaf)
        try:
            key = self._vouched_for(leaf)
        except (MalformedError, DivergenceError) as error:
            divergence = error if isinstance(error, DivergenceError) else DivergenceError(0, None, str(error))
            if other is not None:
                problem = f"entry 0 is not the one that {other} stands for: {printable(divergence.problem)}"
                self._findings.damaged(Line.FILES, bundle, problem)
            elif isinstance(error, UnknownEntryError):
                self._findings.uncheckable(Line.TRUST, printable(divergence.problem), entry=0)
            else:
                self._diverges(divergence)
            return None
        if key is None:
            self._findings.uncheckable(
                Line.TRUST, "nothing vouches for the log key, so that nothing under it is believed", entry=0
            )
            if other is not None:
                self._findings.damaged(Line.FILES, bundle, f"entry 0 is not the one that {other} stands for")
        return key

    def _follow_keys(self, first: VerifyingKey, size: int) -> KeyChanges:
        """Look for the changes of the key that the entries claim, so that checkpoints can be read under it."""
        # What it can't read, the walk will note.
        walk = TreeWalk(files=self._files, inventory=self._inventory, size=size, heads=(), findings=Findings())
        claims = claims_in(walk.glance())
        self._keys = keys = KeyChanges(
            agreement=self._agreement,
            first=first,
            claims=claims,
            verify_grants=self._require_grants,
            objects=self._objects,
            findings=self._findings,
        )
        if claims.unreadable:
            problem = "changes the log's key in a way that this reader does not know; nothing from here on was replayed"
            self._findings.uncheckable(Line.ENTRIES, problem, entry=claims.size)
        self._heads.believe(keys.keys, known_to=claims.size)
        return keys

    def _require_grants(self, agreement: Agreement, entry: LogRecovered, grants: bytes) -> None:
        """Raise `GrantError` unless silos authorised a recovery, and the newest model that they hold is taken up."""
        verify_grants(agreement, entry, grants)
        if not self._history.ended:
            require_newest(agreement, entry, grants, self._history.models)

    def _vouched_for(self, leaf: bytes) -> VerifyingKey | None:
        """The log key of a genesis of this agreement whose evidence is accepted; None if it could not be checked."""
        self._line = Line.TRUST
        genesis = parse_entry(leaf)
        if not isinstance(genesis, LogGenesis):
            raise DivergenceError(0, genesis.KIND, "expected log.genesis")
        self._line = Line.AGREEMENT
        ours = self._agreement
        if genesis.agreement != ours.digest:
            problem = f"expected agreement {format_digest(ours.digest)}, found {format_digest(genesis.agreement)}"
            raise DivergenceError(0, genesis.KIND, problem)
        if genesis.origin != ours.log.origin:
            raise DivergenceError(0, genesis.KIND, f"expected the log {ours.log.origin!r}, found {genesis.origin!r}")
        self._line = Line.TRUST
        self._reached.add(Line.AGREEMENT)
        return genesis.keys.log_key if self._evidence.genesis(genesis) else None

    def _diverges(self, error: DivergenceError) -> None:
        self._findings.diverges(self._line, printable(error.problem), entry=error.index, kind=error.kind)

    # 3 to 7

    def _walk(self, newest: Head, keys: KeyChanges) -> None:
        size = newest.checkpoint.size
        walk = TreeWalk(
            files=self._files, inventory=self._inventory, size=size, heads=self._heads.sizes, findings=self._findings
        )
        self._resuming = self._going_on(keys)
        for entry in walk.entries():
            index = walk.edge.size
            if not self._resuming.passes(walk):
                self._take_heads(walk, last=False)
                self._receipts.leaf(index, entry)
                if self._replaying:
                    self._replaying = self._take_entry(index, entry, walk.edge.head)
            if index % _PROGRESS_EVERY == 0:
                self._progress(index, size)
        self._resuming.conclude(walk)
        if walk.complete:
            self._take_heads(walk, last=True)
            self._reached |= {Line.FILES, Line.TRUST}
            if self._replaying and not walk.broken:
                self._reached |= {Line.ENTRIES, Line.EVIDENCE, Line.RELEASES, Line.OBJECTS}
                self._objects.get(self._agreement.digest, "the agreement")
                self._objects.get(self._agreement.model.layout, "the model's layout")
                self._releases.conclude()
                for line in ending(self._history):
                    self._findings.note(line)
        for note in self._replayed.notes:
            self._findings.note(note)
        self._progress(walk.edge.size, size)
        walk.conclude()
        self._heads.conclude(size)
        if self._kept is not None:
            self._kept = self._receipts.conclude(newest=size, signed_size=walk.signed_size)
        # An entry that the log did not sign convicts nobody but whoever changed the file, which is named already.
        if self._divergence is not None and not (walk.broken and self._divergence.index >= walk.signed_size):
            self._diverges(self._divergence)

    def _going_on(self, keys: KeyChanges) -> Resuming:
        return Resuming(
            agreement=self._agreement,
            heads=self._heads,
            objects=self._objects,
            keys=keys,
            parts={
                "history": self._history,
                "evidence": self._evidence,
                "releases": self._releases,
                "objects": self._objects,
                "keys": keys,
                "replayed": self._replayed,
            },
            findings=self._findings,
            resumed=self._resumed,
            keep=self._keep,
        )

    def _take_heads(self, walk: TreeWalk, *, last: bool) -> None:
        """3: every checkpoint of the tree's present size."""
        size = walk.edge.size
        self._receipts.checkpoints(walk.edge)
        held = [head for head in self._heads.at(size) if walk.holds(head.checkpoint.head, head.name)]
        if held and self._replaying:
            # Before they count: the next audit takes the heads of this size again.
            self._resuming.offer(walk, held, last=last)
        for head in held:
            self._releases.checkpoint(size, head.votes)
        if self._replaying and self._keys is not None:
            try:
                self._keys.checkpoint(held)
            except DivergenceError as error:
                self._line, self._divergence, self._replaying = Line.TRUST, error, False

    def _take_entry(self, index: int, data: bytes, before: Callable[[], TreeHead]) -> bool:
        """4 to 6: whether the replay goes on."""
        try:
            self._line = Line.TRUST
            if index == 0 and data != self._leaf_0:
                raise DivergenceError(0, None, "expected the leaf 0 whose evidence was appraised, found another")
            self._line = Line.ENTRIES
            entry = parse_entry(data)
            self._history.apply(entry)
            self._history.outcomes.clear()  # For silos that ask; no later entry rests on them.
            self._line = Line.EVIDENCE
            self._evidence.check(index, entry, self._history)
            self._line = Line.TRUST
            if self._keys is not None:
                self._keys.entry(index, entry, before)
            self._line = Line.RELEASES
            self._releases.entry(index, entry, self._history)
            self._receipts.follow(index, entry)
            if self._doubts is not None:
                self._doubts.follow(entry)
        except UnknownEntryError as error:
            problem = f"{printable(str(error))}; from here on nothing was replayed"
            self._findings.uncheckable(Line.ENTRIES, problem, entry=index)
            return False
        except MalformedError as error:
            self._divergence = DivergenceError(index, None, str(error))
            return False
        except DivergenceError as error:
            self._divergence = error
            return False
        self._replayed.entry(entry)
        if self._told is not None:
            self._told(index, entry)
        return True

    def _note_release(self, text: str) -> None:
        if len(self._replayed.notes) < MAXIMUM_FINDINGS:
            self._replayed.notes += (text,)

    # The report

    def _report(self) -> AuditReport:
        findings = self._findings
        if findings.unlisted:
            findings.information.append(f"and {findings.unlisted} more findings, not listed")
        divergence = findings.divergence or next(iter(findings.damage), None)
        as_of = None if self._doubts is None else self._doubts.as_of()
        return AuditReport(
            verdict=findings.verdict,
            simulated=self._agreement.simulated,
            agreement=self._agreement.digest,
            origin=self._agreement.log.origin,
            divergence=divergence,
            damage=tuple(findings.damage),
            missing=tuple(findings.missing),
            information=tuple(findings.information),
            checks=check_lines(findings, self._reached, self._details()),
            not_checked=tuple(not_checked(self._agreement, heads=self._heads_kept, kept=self._kept, as_of=as_of)),
            counts=self._replayed.counts(
                checkpoints=len(self._heads.sizes),
                evidence_appraised=self._evidence.appraised,
                objects=self._objects.found,
            ),
            newest=None if self._newest is None else self._newest_checkpoint(self._newest),
            kept=self._kept,
            as_of=as_of,
        )

    def _newest_checkpoint(self, newest: Head) -> NewestCheckpoint:
        return NewestCheckpoint(
            size=newest.checkpoint.size,
            root=newest.checkpoint.root,
            cosignatures=newest.votes.owners,
            witnesses=newest.votes.witnesses,
            quorum_size=self._releases.quorum_size,
        )

    def _details(self) -> dict[Line, str]:
        return {
            Line.FILES: f"{len(self._inventory.tiles)} tiles, {len(self._inventory.notes)} checkpoints",
            Line.TRUST: f"{self._heads.verified} signed checkpoints",
            Line.ENTRIES: f"{self._replayed.total()} entries",
            Line.EVIDENCE: f"{self._evidence.appraised} pieces of evidence",
            Line.RELEASES: f"{self._releases.checked} attempts that were answered",
            Line.OBJECTS: f"{self._objects.found} objects",
        }
