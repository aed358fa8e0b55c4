"""Every checkpoint that the store holds: signed by the log, cosigned by nobody but the agreement's silos and witnesses.

Trusts the log's first key, which evidence vouched for by then, the changes that entries claim (`audit.key_changes` has
them shown), and the silos' and the witnesses' keys, which are the agreement's. Called by the audit.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from audit.agreed import quorum_of
from audit.findings import Findings
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.log_keys import LogKeys
from audit.note import MAXIMUM_NOTE_BYTES, Checkpoint, NoteSignature, VerifierKey
from audit.quorum import Quorum, Tally
from audit.report import Line
from audit.resources import CHECKPOINT, checkpoint_name
from audit.store import NotFound, StoreError
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError, SignatureError


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An authentic checkpoint in the store, and who cosigned it."""

    name: str
    checkpoint: Checkpoint
    votes: Tally


class Settled(NamedTuple):
    """The checkpoints below a size: how many were verified, and the digest of their names and bytes."""

    verified: int
    notes: bytes


class Heads:
    """Reads and verifies checkpoints; whatever is wrong with one is noted under its name.

    `sizes`: those of all checkpoints in the store, ascending. `kept`: checkpoints that the auditor has from elsewhere.
    """

    def __init__(
        self,
        *,
        files: LogFiles,
        inventory: Inventory,
        agreement: Agreement,
        kept: Mapping[str, Checkpoint],
        findings: Findings,
    ) -> None:
        self.verified = 0
        self.settled = Settled(0, b"")
        self._notes_so_far = sha256()
        self._files = files
        self._notes = inventory.notes
        self._has_newest = inventory.has_checkpoint
        leaves = (tile for tile in inventory.tiles if tile.level in (None, 0))
        self._stored_to = max((tile.start + tile.width for tile in leaves), default=0)
        self._agreement = agreement
        self._kept = kept
        self._findings = findings
        self._quorum = quorum_of(agreement)
        self._keys: LogKeys | None = None
        self._keys_known_to = 0
        self._known: dict[str, bytes] = {}
        self._last: dict[int, tuple[VerifierKey, ...]] = {}
        self.sizes: Sequence[int]
        self._newest_file = self._read(CHECKPOINT) if self._has_newest else None
        self._newest_bytes = self._bytes()
        self.sizes = self._notes
        if self._newest_file is not None and not self._has_note(self._newest_file.size):
            self.sizes = array("Q", sorted((*self._notes, self._newest_file.size)))

    @property
    def quorum(self) -> Quorum:
        """Who has to cosign before a release."""
        return self._quorum

    def believe(self, keys: LogKeys, *, known_to: int) -> None:
        """Take the log's keys, as its first `known_to` entries claim them: before `newest` and `at`."""
        self._keys, self._keys_known_to = keys, known_to
        self._known = {key.name: key.key_id for key in self._quorum.keys}
        kept = [checkpoint.size for checkpoint in self._kept.values()]
        for index, former, _ in keys.handovers:
            # The last that a key signs is the first checkpoint above the entry that retires it.
            above = [size for size in (*self.sizes[bisect_right(self.sizes, index) :][:1], *kept) if size > index]
            first = min(above, default=0)
            self._last[first] = (*self._last.get(first, ()), former)

    def require_signed(self, checkpoint: Checkpoint) -> None:
        """Raise `SignatureError` unless the log signed this checkpoint, whoever else did."""
        if self._keys is None:
            raise ValueError("no log key is believed yet")
        self._keys.verify(checkpoint)

    def newest(self) -> Head | None:
        """The largest checkpoint that verifies; what lies above it is noted as damage."""
        for size in reversed(self.sizes):
            for name, checkpoint in self._stored(size):
                head = self._verify(name, checkpoint)
                if head is not None:
                    return head
        return None

    def at(self, size: int) -> list[Head]:
        """The authentic checkpoints of one size: its note, `checkpoint` if it is of this size, and what was kept."""
        self.settled = Settled(self.verified, self.notes_so_far())
        kept = [(name, checkpoint) for name, checkpoint in self._kept.items() if checkpoint.size == size]
        stored = [*self._stored(size, count=True)]
        heads = [self._verify(name, checkpoint) for name, checkpoint in (*stored, *kept)]
        self.verified += len(stored)
        return [head for head in heads if head is not None]

    def pass_over(self, size: int) -> list[Head]:
        """As `at`, but the size's own note, which was verified before, is only counted among `notes_so_far`."""
        if self._has_note(size):
            with suppress(StoreError):
                self._count(checkpoint_name(size), self._bytes_of(checkpoint_name(size)))
        others = [(name, checkpoint) for name, checkpoint in self._kept.items() if checkpoint.size == size]
        if self._newest_file is not None and self._newest_file.size == size:
            others.append((CHECKPOINT, self._newest_file))
        return [head for name, checkpoint in others if (head := self._verify(name, checkpoint)) is not None]

    def notes_so_far(self) -> bytes:
        """Digest (32 bytes) of the names and bytes of all notes that `at` and `pass_over` have come by."""
        return self._notes_so_far.digest()

    def _count(self, name: str, data: bytes) -> None:
        self._notes_so_far.update(f"{name} {len(data)}\n".encode() + data)

    def conclude(self, newest: int) -> None:
        """Hold `checkpoint` and what was kept against the newest size, once all of them are verified."""
        findings = self._findings
        for name, checkpoint in self._kept.items():
            self._conclude_kept(name, checkpoint, newest)
        if self._newest_file is None:
            if not self._has_newest:
                findings.uncheckable(Line.TRUST, "expected the newest checkpoint, found none", resource=CHECKPOINT)
        elif self._newest_file.size < newest:
            found = self._newest_file.size
            position = bisect_left(self._notes, newest)
            before = self._notes[position - 1] if position else 0
            if found == before:
                findings.note(
                    f"{CHECKPOINT}: one batch behind (a crash between two writes; the next start completes it)"
                )
            else:
                problem = f"expected the checkpoint of {newest} entries, or after a crash of {before}, found {found}"
                findings.damaged(Line.TRUST, CHECKPOINT, problem)
        elif not self._has_note(newest):
            name = checkpoint_name(newest)
            findings.uncheckable(Line.TRUST, f"expected the same as {CHECKPOINT}, found none", resource=name)
        if self._bytes() != self._newest_bytes:
            problem = "changed while the log was read: stop the appliance, or audit a copy of its store"
            findings.uncheckable(Line.TRUST, problem, resource=CHECKPOINT)

    def _conclude_kept(self, name: str, checkpoint: Checkpoint, newest: int) -> None:
        size = checkpoint.size
        if size > newest:
            if self._verify(name, checkpoint) is not None:
                problem = f"this log had {size} entries once, and now has {newest}: it was rolled back, or cut"
                self._findings.damaged(Line.TRUST, name, problem)
        elif not self._has_note(size):
            resource = checkpoint_name(size)
            self._findings.uncheckable(Line.TRUST, f"expected it beside {name}, found none", resource=resource)

    def _has_note(self, size: int) -> bool:
        position = bisect_left(self._notes, size)
        return position < len(self._notes) and self._notes[position] == size

    def _stored(self, size: int, *, count: bool = False) -> Iterator[tuple[str, Checkpoint]]:
        if self._has_note(size):
            name = checkpoint_name(size)
            note = self._read(name, count=count)
            if note is not None and note.size == size:
                yield name, note
            elif note is not None:
                self._findings.damaged(Line.TRUST, name, f"expected a checkpoint of {size} entries, found {note.size}")
        if self._newest_file is not None and self._newest_file.size == size:
            yield CHECKPOINT, self._newest_file

    def _verify(self, name: str, checkpoint: Checkpoint) -> Head | None:
        if self._keys is None:
            raise ValueError("no log key is believed yet")
        try:
            log_key = self._keys.verify(checkpoint)
            votes = self._quorum.count(checkpoint, log_key)
        except SignatureError as error:
            # Not by the key of its size: is it one that an entry names which is stored, and can't be read?
            log_lines = [line for line in checkpoint.note.signatures if line.name == self._agreement.log.origin]
            if log_lines and all(self._may_be_unknown(checkpoint.size, line) for line in log_lines):
                self._findings.uncheckable(Line.TRUST, self._signed_by_another, resource=name)
            else:
                self._findings.damaged(Line.TRUST, name, printable(str(error)))
            return None
        retired = {key.signer: index for key, index in self._keys.retired_below(checkpoint.size)}
        signers = {key.signer for key in (log_key, *self._last.get(checkpoint.size, ()))}
        known = {*self._known.values(), log_key.key_id}
        for signature in checkpoint.note.signatures:
            if self._known.get(signature.name) == signature.key_id or signature.signer in signers:
                continue
            shown = printable(signature.name)
            if signature.signer in retired:
                problem = f"also signed with a key that was retired at entry {retired[signature.signer]}"
                self._findings.damaged(Line.TRUST, name, problem)
            elif signature.name == log_key.name and self._may_be_unknown(checkpoint.size, signature):
                self._findings.uncheckable(Line.TRUST, self._signed_by_another, resource=name)
            elif signature.name in (*self._known, log_key.name) or signature.key_id in known:
                problem = f"a signature by {shown}: the name of one key and the id of another"
                self._findings.damaged(Line.TRUST, name, problem)
            else:
                problem = f"a signature by {shown}, whom the agreement does not name, was not checked"
                self._findings.uncheckable(Line.TRUST, problem, resource=name)
        return Head(name=name, checkpoint=checkpoint, votes=votes)

    def _may_be_unknown(self, size: int, line: NoteSignature) -> bool:
        """Whether a line by the log may be under a key that an entry names which is stored, and can't be read."""
        if self._keys is None or not self._keys_known_to < size <= self._stored_to:
            return False
        return all(item.key.key_id != line.key_id for item in self._keys.in_force)

    @property
    def _signed_by_another(self) -> str:
        return f"signed by a key that must be named after the {self._keys_known_to} entries that can be read here"

    def _read(self, name: str, *, count: bool = False) -> Checkpoint | None:
        try:
            data = self._bytes_of(name)
            if count:
                self._count(name, data)
            return Checkpoint.parse(data)
        except MalformedError as error:
            self._findings.damaged(Line.TRUST, name, printable(str(error)))
        except StoreError as error:
            self._findings.uncheckable(Line.TRUST, str(error), resource=name)
        return None

    def _bytes_of(self, name: str) -> bytes:
        return self._files.read(name, limit_bytes=2 * MAXIMUM_NOTE_BYTES)

    def _bytes(self) -> bytes | None:
        try:
            return self._bytes_of(CHECKPOINT)
        except NotFound:
            return None
        except StoreError:
            return b""
