"""A silo as a state machine: messages in, messages and steps out. No sockets, no threads, no clock of its own.

    hello ─► (catchup ─► caught_up …) ─► welcome ─► admitted ─► join ─► handle … handle ─► the end
      ▲                                                            │
      └────── the appliance restarted, or the admission nears its end

It makes every check that stands between the network and the user's code; what it returns was verified. What must
survive is in `SiloState`; the appraised boot and the silo's keys for it live here, in memory, and die with the process.
Its methods may be called from any thread. It trusts its own agreement, identity key and state.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from attestation.collect.platform import Platform
from audit.agreed import quorum_of
from audit.entries import LogRecovered, RoundOpened, UpdateAccepted, parse_entry
from audit.merkle import ProofError
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.quorum import QuorumError
from protocol.agreement import Agreement
from protocol.errors import MalformedError, RefusalCode, SignatureError, refuse
from protocol.fields import format_digest
from protocol.keys import SigningKey, VerifyingKey
from protocol.sealing import BlobKind, ContentKey, ModelKey, ModelKeyTerms, key_digest
from protocol.session import (
    Announcement,
    Body,
    CosignRequest,
    Declined,
    Join,
    UploadAccepted,
    WantInitial,
    parse_to_silo,
)
from silo_client.announcement import End, MissingOutcomeError, Outcome, Standing, Verified, verify
from silo_client.enrolment import Dialog, Enrolled, Party
from silo_client.state import SealedUpdate, SiloState
from silo_client.witness import LogBrokenError, Witness

_REASON_CHARACTERS = 255
_UNHEEDED = "it was not acted upon: the appliance, or somebody before it, sends what nothing vouches for"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBody:
    """A body to download: under this name, with this blob digest, opened by this key."""

    name: str
    digest: bytes
    key: ContentKey
    signer: VerifyingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send this message."""

    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    """Send this message, then stop with the error: the log was rolled back, forked or replaced."""

    message: bytes
    error: LogBrokenError


@dataclass(frozen=True, slots=True, kw_only=True)
class SendInitial:
    """Seal the model with this content to the appliance and upload it: the agreed initial one, or one that it lost."""

    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """A verified round. `outcome` is what became of the update before, if one was pending.

    `reset`: all controls were reset since, and this silo's is zero again.
    """

    entry: RoundOpened
    model: SealedBody
    control: SealedBody | None
    outcome: Outcome | None
    reset: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """The pending update's attempt is still open: send its stored bytes."""

    update: SealedUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """Nothing to do: an announcement of an attempt that this silo is through with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The federation is over; `model` is its result."""

    entry: End
    model: SealedBody
    outcome: Outcome | None


Step: TypeAlias = Send | Decline | SendInitial | Train | Resume | Ignore | Finish


class SiloMachine:
    """One silo of one federation."""

    def __init__(
        self,
        *,
        agreement: Agreement,
        silo: str,
        identity: SigningKey,
        platform: Platform | None,
        state: SiloState,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        """`platform`: what makes this silo's evidence, None for `tee = "none"`; `clock`: unix seconds."""
        self.agreement = agreement
        self.silo = silo
        self.state = state
        self._clock = clock
        self._witness = Witness(agreement=agreement, silo=silo, identity=identity, state=state)
        self._quorum = quorum_of(agreement)
        self._party = Party(
            agreement=agreement,
            silo=silo,
            identity=identity,
            platform=platform,
            state=state,
            witness=self._witness,
            random=random,
        )
        self._lock = threading.RLock()
        self._dialog: Dialog | None = None
        self._enrolled: Enrolled | None = None
        self._former: Enrolled | None = None
        self._asked_again: tuple[int, int] | None = None
        self._training: RoundOpened | None = None
        self._newest: tuple[int, int] | None = None

    @property
    def enrolled(self) -> Enrolled:
        """The boot that has admitted this silo; `ValueError` before."""
        if self._enrolled is None:
            raise ValueError("not enrolled yet")
        return self._enrolled

    @property
    def is_enrolled(self) -> bool:
        """Whether a boot has admitted this silo, as far as it knows."""
        return self._enrolled is not None

    # Enrolment

    def hello(self) -> bytes:
        """Begin an enrolment, the first or another."""
        with self._lock:
            self._dialog = Dialog(self._party)
            return self._dialog.hello()

    def catchup(self, welcome: bytes) -> bytes | None:
        """What to ask first, where `hello` goes, if the welcome is of the log under another key; else None."""
        with self._lock:
            return self._current_dialog().catchup(welcome, self._clock())

    def caught_up(self, welcome: bytes, answer: bytes) -> None:
        """Take the answer; raises what `Dialog.caught_up` lists."""
        with self._lock, _unheeded("history of log keys"):
            self._current_dialog().caught_up(welcome, answer)

    def welcome(self, message: bytes) -> bytes:
        """Appraise the appliance and ask to be admitted; raises what `Dialog.welcome` lists."""
        with self._lock:
            return self._current_dialog().welcome(message, self._clock())

    def admitted(self, message: bytes) -> Enrolled:
        """Take the admission; raises what `Dialog.admitted` lists."""
        with self._lock:
            enrolled = self._current_dialog().admitted(message, self._clock())
            former = self._enrolled
            # What the same boot sealed to the former key may still be on its way.
            self._former = former if former is not None and former.boot_id == enrolled.boot_id else None
            self._enrolled, self._dialog = enrolled, None
            return enrolled

    def _current_dialog(self) -> Dialog:
        if self._dialog is None:
            raise ValueError("no enrolment has begun")
        return self._dialog

    # The session

    def join(self) -> bytes:
        """The session's first message: what the silo knows, and which update is in doubt."""
        with self._lock:
            head, pending = self.state.head, self.state.pending
            return Join(
                head=0 if head is None else head.size, pending=None if pending is None else pending.announced()
            ).encode()

    def handle(self, message: bytes) -> Step:
        """Verify one message of the enclave and say what to do.

        Raises `MalformedError`, `SignatureError`, `RefusedError`, `ProofError` or `QuorumError` for a message that must
        not be acted upon; the state is then as before.
        """
        with _unheeded("message"):
            parsed = parse_to_silo(message)
        with self._lock, _unheeded(str(parsed.KIND)):
            if isinstance(parsed, CosignRequest):
                return self._cosign(parsed)
            if isinstance(parsed, WantInitial):
                return self._wanted(parsed)
            return self._announced(parsed)

    def hold(self, update: SealedUpdate) -> bool:
        """Make a sealed update the pending one, unless its attempt is no longer the newest announced: then False."""
        with self._lock:
            entry = self._training
            if entry is None or (entry.round, entry.attempt, entry.boot_id) != (*update.order, update.boot_id):
                return False
            self.state.hold(update)
            return True

    def is_current(self, entry: RoundOpened) -> bool:
        """Whether this is the newest announced attempt."""
        return self._training == entry

    def accepted(self, update: SealedUpdate, message: bytes) -> None:
        """Check the answer to an update's upload, and keep its receipt.

        Raises `RefusedError` (other-log), `SignatureError`, `ProofError`, `MalformedError` unless the receipt shows an
        `update.accepted` entry for this very update in the pinned log.
        """
        with self._lock, _unheeded("answer to an upload"):
            answer = UploadAccepted.parse(message)
            if answer.entry is None or answer.receipt is None:
                raise MalformedError("expected an entry and its receipt for an update, found none")
            receipt = Receipt.parse(answer.receipt.encode())
            log_key = self._witness.log_keys.signer(receipt.checkpoint)
            receipt.verify(answer.entry, log_key=log_key, quorum=None)
            entry = parse_entry(answer.entry)
            ours = (self.silo, update.upload_id, update.digest)
            if not isinstance(entry, UpdateAccepted) or (entry.silo, entry.upload_id, entry.update) != ours:
                raise refuse(
                    RefusalCode.OTHER_LOG,
                    expected="a receipt for the update that was uploaded",
                    found=f"one for another {entry.KIND} entry",
                    remedy="the appliance answers with another's receipt: do not go on with it",
                )
            # The round may have gone on meanwhile; an older receipt is worth no less.
            self._witness.observe(receipt.checkpoint, log_key, at_least=0)
            self._keep(receipt, entry.KIND, answer.entry)

    def _cosign(self, request: CosignRequest) -> Step:
        try:
            return Send(message=self._witness.cosign(request, now=self._clock()).encode())
        except LogBrokenError as error:
            reason = str(error)[:_REASON_CHARACTERS]
            declined = Declined(size=error.size, code=str(error.refusal.code), reason=reason)
            return Decline(message=declined.encode(), error=error)

    def _wanted(self, wanted: WantInitial) -> Step:
        """The initial model, or the one that the log names after a loss; nothing else is handed to anybody."""
        agreed, named = self.agreement.model.initial, None
        if wanted.lost is not None:
            checkpoint, logged = Checkpoint.parse(wanted.lost.checkpoint.encode()), wanted.lost.recovered
            receipt = Receipt(index=logged.index, proof=logged.hashes, checkpoint=checkpoint)
            receipt.verify(logged.entry, log_key=self._witness.log_keys.signer(checkpoint), quorum=None)
            entry = parse_entry(logged.entry)
            named = entry.model if isinstance(entry, LogRecovered) else None
        if wanted.digest not in (agreed, named):
            raise refuse(
                RefusalCode.WRONG_MODEL,
                expected=f"a request for the agreed initial model {format_digest(agreed)}"
                + ("" if named is None else f", or for {format_digest(named)}, which the log says is lost"),
                found=f"one for {format_digest(wanted.digest)}",
                remedy="the appliance departs from the agreement: do not go on with it",
            )
        return SendInitial(digest=wanted.digest)

    def _announced(self, announcement: Announcement) -> Step:
        try:
            verified = verify(
                announcement,
                agreement=self.agreement,
                silo=self.silo,
                boot_id=self.enrolled.boot_id,
                state=self.state,
                witness=self._witness,
                quorum=self._quorum,
                newest=self._newest,
            )
        except MissingOutcomeError:
            # The announcement may have crossed our update on the way: name it once more before giving up.
            pending = self.state.pending
            if pending is None or self._asked_again == pending.order:
                raise
            self._asked_again = pending.order
            return Send(message=self.join())
        self._asked_again = None
        step = self._step(announcement, verified)
        self._settle(verified)
        self._training = verified.entry if isinstance(verified.entry, RoundOpened) else None
        if self._training is not None:
            self._newest = self._training.round, self._training.attempt
        return step

    def _step(self, announcement: Announcement, verified: Verified) -> Step:
        entry = verified.entry
        if isinstance(entry, End):
            model = self._body(announcement.model, BlobKind.MODEL, entry.rounds, 0)
            return Finish(entry=entry, model=model, outcome=verified.outcome)
        if verified.standing is Standing.RESUME and self.state.pending is not None:
            return Resume(update=self.state.pending)
        if verified.standing is not Standing.TRAIN:
            return Ignore()
        control = announcement.control
        return Train(
            entry=entry,
            model=self._body(announcement.model, BlobKind.MODEL, entry.round, entry.attempt),
            control=None if control is None else self._body(control, BlobKind.CONTROL, entry.round, entry.attempt),
            outcome=verified.outcome,
            reset=entry.control_epoch > self.state.control_epoch and self.state.parent is not None,
        )

    def _body(self, body: Body, kind: BlobKind, round_number: int, attempt: int) -> SealedBody:
        """Open the key that was handed to this silo, for this body, boot, round and attempt, and for nothing else."""
        enrolled = self.enrolled
        key = ModelKey.parse(body.key, enrolled.keys.signing_key)
        if self._former is not None and key.terms.recipient_key == key_digest(self._former.sealing.public):
            enrolled = self._former
        expected = ModelKeyTerms(
            kind=kind.value,
            body=body.digest,
            agreement=self.agreement.digest,
            boot_id=enrolled.boot_id,
            round=round_number,
            attempt=attempt,
            recipient=self.silo,
            recipient_key=key_digest(enrolled.sealing.public),
        )
        content_key = key.open(enrolled.sealing, expected)
        # Bodies are signed with the log key, which outlives the boot that sealed them.
        return SealedBody(name=body.name, digest=body.digest, key=content_key, signer=enrolled.keys.log_key)

    def _settle(self, verified: Verified) -> None:
        outcome, entry = verified.outcome, verified.entry
        if outcome is not None:
            self._keep(outcome.receipt, outcome.entry.KIND, outcome.data)
        self._witness.passed(verified.checkpoint)
        self.state.settle(
            head=verified.head.with_lines_by([self._witness.log_key]),
            used=None if outcome is None else outcome.used,
            control_epoch=entry.control_epoch if isinstance(entry, RoundOpened) else self.state.control_epoch,
        )

    def _keep(self, receipt: Receipt, kind: str | None, entry: bytes) -> None:
        self.state.keep_receipt(f"{receipt.index:08d}-{kind}", entry=entry, receipt=receipt.encode())


@contextmanager
def _unheeded(what: str) -> Iterator[None]:
    """Say of an error in what the appliance sent what it was about, and what came of it."""
    try:
        yield
    except (MalformedError, SignatureError, ProofError, QuorumError) as error:
        error.args = (f"the appliance's {what}: {error}; {_UNHEEDED}",)
        raise
