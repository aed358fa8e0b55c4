"""The silo as a witness of the log (DESIGN §8): one log an agreement, never a smaller head, never a fork.

It believes nothing but the log key that evidence vouched for, its successors, and the head that it persisted itself. A
checkpoint counts as newer only with a consistency proof from that head, and the new head is durable before a
cosignature leaves. A retired key is believed in nothing that lies above the entry that retired it. What does not fit
stops the silo, and both notes are kept as files; where they convict (`silo_client.conviction`), a fraud proof beside
them shows it to anybody. Pure but for the state's store.

Numbered checks, repeated below:

1. the checkpoint is of the agreement's log and signed by the key that signs its size
2. it is not smaller than the head (log-rolled-back)
3. at the head's size it has the head's root (log-forked)
4. a larger one extends the head: its proof begins there and leads to both roots (log-forked)
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from audit.agreed import cosigner_of
from audit.entries import parse_entry
from audit.key_history import Followed, KeyChangeError
from audit.log_keys import LogKeys
from audit.merkle import EMPTY_ROOT, ProofError, TreeHead, verify_consistency
from audit.note import Checkpoint, VerifierKey
from audit.proof import Receipt
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import Refusal, RefusalCode, RefusedError
from protocol.key_history import KeyChange
from protocol.keys import SigningKey, VerifyingKey
from protocol.session import Consistency, Cosigned, CosignRequest
from silo_client.conviction import FILE, convicting
from silo_client.state import SiloState

_NOTHING = TreeHead(size=0, root=EMPTY_ROOT)


class LogBrokenError(RefusedError):
    """The log was rolled back, forked or replaced. `evidence` is the folder (in the state's store) with both notes."""

    def __init__(self, refusal: Refusal, evidence: str, size: int) -> None:
        super().__init__(refusal)
        self.evidence = evidence
        self.size = size


class Witness:
    """One silo's view of one log."""

    def __init__(self, *, agreement: Agreement, silo: str, identity: SigningKey, state: SiloState) -> None:
        self._agreement = agreement
        self._cosigner = cosigner_of(agreement, agreement.silo(silo))
        self._identity = identity
        self._state = state
        # Heads that were verified to lie on the way to the persisted one, by size.
        self._passed: dict[int, Checkpoint] = {}

    @property
    def log_keys(self) -> LogKeys:
        """The pinned log's keys; `ValueError` before the first enrolment."""
        keys = self._state.log_keys(self._agreement.log.origin)
        if keys is None:
            raise ValueError("no log is pinned yet")
        return keys

    @property
    def log_key(self) -> VerifierKey:
        """The one that signs now."""
        return self.log_keys.current

    def may_follow(self, key: VerifyingKey) -> bool:
        """Whether this may be the pinned log under a key that this silo has not heard of."""
        pinned = self._state.log_key
        return pinned is not None and pinned != key and self.log_keys.retired_at(key) is None

    def require_log(self, key: VerifyingKey, note: Checkpoint) -> None:
        """Refuse a retired key, and a second log under the same agreement: a silo believes in one genesis, ever."""
        pinned = self._state.log_key
        if pinned is None or pinned == key:
            return
        retired = self.log_keys.retired_at(key)
        if retired is not None:
            raise self._broken(
                RefusalCode.LOG_ROLLED_BACK,
                expected=f"the log under the key {pinned}",
                found=f"it signed with a key that was retired at entry {retired}",
                remedy="the appliance runs on an older copy of its store: restore the newest one",
                theirs=note,
            )
        raise self._broken(
            RefusalCode.OTHER_LOG,
            expected=f"the log that this silo has known from the beginning, with the key {pinned}",
            found=f"a second genesis under the same agreement, with the key {key}",
            remedy="the appliance lost or hid its history: restore its store, or make a successor agreement",
            theirs=note,
        )

    def adopt(self, followed: Followed, changes: Iterable[KeyChange]) -> None:
        """Follow the log to its newest key, which the caller has verified; the changes are kept as receipts."""
        for change in changes:
            receipt = Receipt(
                index=change.logged.index,
                proof=change.logged.hashes,
                checkpoint=Checkpoint.parse(change.checkpoint.encode()),
            )
            name = f"{receipt.index:08d}-{parse_entry(change.logged.entry).KIND}"
            self._state.keep_receipt(name, entry=change.logged.entry, receipt=receipt.encode())
        self._state.adopt(followed.keys, followed.checkpoint.with_lines_by([followed.keys.current]))

    def refuse_keys(self, error: KeyChangeError, answer: bytes, note: Checkpoint) -> LogBrokenError:
        """The log is under another key, and what is said about its history of keys does not show why."""
        return self._broken(
            RefusalCode.OTHER_LOG,
            expected=f"the log whose key {self._state.log_key} this silo knows, or a key that it handed over to",
            found=f"another key, and a history of keys that does not lead there ({printable(str(error))})",
            remedy="the appliance shows another log: stop, and compare the kept notes with the other silos",
            theirs=note,
            files={"key-history.json": answer},
        )

    @property
    def known_size(self) -> int:
        """The size of the head (0 before the first)."""
        return 0 if self._state.head is None else self._state.head.size

    def observe(self, checkpoint: Checkpoint, key: VerifierKey, *, at_least: int) -> None:
        """Hold a checkpoint without proof (in a welcome or receipt) against what is known; changes nothing.

        `at_least`: the size that this silo knew when it asked. While the answer was on its way the head may have gone
        on, so that an honest answer can be older than the head is now, and never older than that.
        """
        # 1
        if self._state.log_key is None:
            checkpoint.verify(key)
        else:
            self.log_keys.verify(checkpoint)
        head = self._state.head
        if head is None:
            return
        # 2
        if checkpoint.size < at_least:
            raise self._rolled_back(checkpoint, head)
        # 3
        known = head if checkpoint.size == head.size else self._passed.get(checkpoint.size, checkpoint)
        if checkpoint.root != known.root:
            raise self._forked(checkpoint, f"another tree of the same {checkpoint.size} entries", known)

    def follow(self, checkpoint: Checkpoint, consistency: Consistency) -> Checkpoint:
        """The head after this checkpoint, once it is shown to lie on the same history; persists nothing.

        An older one that this process has verified on the way here is fine, and leaves the head where it is.
        """
        # 1
        self.log_keys.verify(checkpoint)
        head = self._state.head
        if head is not None and checkpoint.size <= head.size:
            self._require_known(checkpoint, head)
            return head
        self._require_extension(checkpoint, head, consistency)
        return checkpoint

    def passed(self, checkpoint: Checkpoint) -> None:
        """Remember a followed checkpoint, so that messages that crossed it on the way are not taken for a fork."""
        self._passed[checkpoint.size] = checkpoint.with_lines_by([self.log_keys.at(checkpoint.size)])

    def cosign(self, request: CosignRequest, *, now: int) -> Cosigned:
        """Verify, persist the new head, and only then sign.

        Raises `LogBrokenError`, or `SignatureError` / `MalformedError` for what is no checkpoint of this log.
        """
        checkpoint = Checkpoint.parse(request.checkpoint.encode())
        # 1
        self.log_keys.verify(checkpoint)
        head = self._state.head
        # 2. A witness signs nothing smaller than its head, not even what it signed before.
        if head is not None and checkpoint.size < head.size:
            known = self._passed.get(checkpoint.size, checkpoint)
            if known.root != checkpoint.root:
                raise self._forked(checkpoint, f"another tree of the same {checkpoint.size} entries", known)
            raise self._rolled_back(checkpoint, head)
        self.follow(checkpoint, request.consistency)
        time = max(now, self._state.cosigned_at, 1)
        self._state.advance(checkpoint.with_lines_by([self.log_key]), cosigned_at=time)
        self.passed(checkpoint)
        # A crash here has cosigned nothing, and the head is never smaller than what was cosigned.
        line = checkpoint.cosign(self._cosigner.name, self._identity, time=time)
        return Cosigned(size=checkpoint.size, line=line.encode())

    def _require_known(self, checkpoint: Checkpoint, head: Checkpoint) -> None:
        if checkpoint.size == head.size:
            # 3
            if checkpoint.root != head.root:
                raise self._forked(checkpoint, f"another tree of the same {head.size} entries", head)
            return
        known = self._passed.get(checkpoint.size)
        if known is None:
            # 2
            raise self._rolled_back(checkpoint, head)
        if known.root != checkpoint.root:
            found = f"another tree of {checkpoint.size} entries than the one it showed before"
            raise self._forked(checkpoint, found, known)

    def _require_extension(self, checkpoint: Checkpoint, head: Checkpoint | None, consistency: Consistency) -> None:
        # 4
        old = _NOTHING if head is None else head.head
        try:
            if consistency.size != old.size:
                raise ProofError(
                    f"consistency: expected a proof from size {old.size}, found one from {consistency.size}"
                )
            verify_consistency(old=old, new=checkpoint.head, proof=consistency.hashes)
        except ProofError as error:
            found = f"{checkpoint.size} entries that are not shown to extend it ({error})"
            raise self._forked(checkpoint, found, head, consistency) from error

    def _rolled_back(self, checkpoint: Checkpoint, head: Checkpoint) -> LogBrokenError:
        return self._broken(
            RefusalCode.LOG_ROLLED_BACK,
            expected=f"a log of at least the {head.size} entries that this silo has seen",
            found=f"one of {checkpoint.size}",
            remedy="the appliance runs on an older copy of its store: restore the newest one",
            remark="an older head by itself convicts nobody",
            theirs=checkpoint,
        )

    def _forked(
        self, theirs: Checkpoint, found: str, ours: Checkpoint | None, consistency: Consistency | None = None
    ) -> LogBrokenError:
        head = self._state.head
        proof = None if ours is None else convicting(self._agreement, self._state, ours, theirs, consistency)
        if proof is None:
            remedy = "stop, and hold ours.note against its store: strongroom audit compare"
            remark = "the notes alone convict nobody"
        else:
            remedy = f"stop, and send {FILE} to the other silos, who check it: strongroom audit verify-fraud"
            remark = "it convicts the log's key"
        return self._broken(
            RefusalCode.LOG_FORKED,
            expected=f"a log that extends the {0 if head is None else head.size} entries that this silo has seen",
            found=found,
            remedy=f"the appliance shows two histories: {remedy}",
            remark=remark,
            theirs=theirs,
            ours=ours,
            files={} if proof is None else {FILE: proof},
        )

    def _broken(
        self,
        code: RefusalCode,
        *,
        expected: str,
        found: str,
        remedy: str,
        theirs: Checkpoint,
        remark: str = "",
        ours: Checkpoint | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> LogBrokenError:
        files = {"theirs.note": theirs.encode(), **files}
        ours = ours or self._state.head
        if ours is not None:
            files["ours.note"] = ours.encode()
        evidence = self._state.keep_evidence(f"{code}-{theirs.size}-{theirs.root.hex()[:16]}", files)
        kept = f"kept in {evidence}; {remark}" if remark else f"kept in {evidence}"
        refusal = Refusal(code=code, expected=expected, found=found, remedy=f"{remedy} ({kept})")
        return LogBrokenError(refusal, evidence, theirs.size)
