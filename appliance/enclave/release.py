"""What gets out of the enclave, and when: nothing derived from an update before the quorum has cosigned (DESIGN §8).

Here are the connected silos and further witnesses, the checkpoint that waits for their cosignatures and, once enough of
both have voted, the announcement that hands each silo the keys of the newest bodies. A witness is asked to cosign and
told nothing else. No other module sends a silo anything but answers. Called by `Enclave` under its lock.
"""

from dataclasses import dataclass

from appliance.enclave.admission import AdmissionDesk
from appliance.enclave.announcer import Announcer
from appliance.enclave.attempt import Attempt
from appliance.enclave.ledger import Ledger
from appliance.enclave.ports import Ports
from appliance.enclave.sealed_state import EnclaveState
from appliance.enclave.votes import Votes
from audit.phases import Phase
from protocol.agreement import Agreement
from protocol.errors import RefusalCode, RefusedError, SignatureError, refuse
from protocol.session import Cosigned, Join


@dataclass(slots=True, kw_only=True)
class Session:
    """A connected silo: the log size that it knows, and the attempt whose outcome it may still have to learn."""

    head: int
    in_doubt: tuple[int, int] | None


class Release:
    """The sessions of one boot, the votes for its newest checkpoint, and what they open."""

    def __init__(
        self, *, agreement: Agreement, desk: AdmissionDesk, announcer: Announcer, ledger: Ledger, ports: Ports
    ) -> None:
        self._agreement = agreement
        self._desk = desk
        self._announcer = announcer
        self._ledger = ledger
        self._ports = ports
        self._sessions: dict[str, Session] = {}
        self._witness_heads: dict[str, int] = {}
        self._votes: Votes | None = None
        self._cosigned_note: str | None = None
        self._attempt: Attempt | None = None
        self._state: EnclaveState | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether silos were asked to cosign something that stands."""
        return self._votes is not None

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Whose cosignatures a release waits for, in words; empty if none waits."""
        return () if self._votes is None or self._cosigned_note is not None else self._votes.waiting_for

    @property
    def has_sessions(self) -> bool:
        return bool(self._sessions)

    def joined(self) -> tuple[str, ...]:
        """The connected silos whose admission is valid, in the agreement's order."""
        now = self._ledger.now()
        return tuple(silo.name for silo in self._agreement.silos if self._is_current(silo.name, now))

    def suffices(self) -> bool:
        """Whether the silos that are here can reach the quorum, and a cohort that hides each of them."""
        here = self.joined()
        owners = {self._agreement.silo(silo).owner for silo in here}
        trainers = [silo for silo in here if silo not in self._ledger.history.barred]
        return len(owners) >= self._agreement.log.cosigners and self._agreement.cohort_is_sufficient(trainers)

    def join(self, silo: str, join: Join) -> None:
        """A silo's session begins, or begins anew; raises `RefusedError` (log-rolled-back)."""
        self._require_known(silo, join.head)
        in_doubt = None if join.pending is None else (join.pending.round, join.pending.attempt)
        self._sessions[silo] = Session(head=join.head, in_doubt=in_doubt)
        self._greet(silo)

    def leave(self, silo: str) -> None:
        """A silo's session ended."""
        self._sessions.pop(silo, None)

    def join_witness(self, witness: str, head: int) -> None:
        """A further witness may be asked, from a log of `head` entries on; raises `RefusedError` (log-rolled-back)."""
        self._witness_heads.pop(witness, None)
        self._require_known(f"witness {witness}", head)
        self._witness_heads[witness] = head
        self._ask_witness(witness)

    def leave_witnesses(self) -> None:
        """Nobody carries requests to witnesses any more."""
        self._witness_heads.clear()

    def withdraw(self) -> None:
        """What stood is over: an attempt has ended."""
        self._votes, self._cosigned_note, self._attempt, self._state = None, None, None, None

    def ask(self, attempt: Attempt | None, state: EnclaveState) -> None:
        """Ask everybody here to cosign the newest checkpoint; `attempt` (None: the end) and `state` go out after it."""
        self._votes, self._cosigned_note = Votes(agreement=self._agreement, note=self._ledger.checkpoint_text), None
        self._attempt, self._state = attempt, state
        for silo in self.joined():
            self._greet(silo)
        for witness in list(self._witness_heads):
            self._ask_witness(witness)

    def count(self, silo: str, cosigned: Cosigned) -> None:
        """Take a cosignature; with the last one that was missing, announce. Raises `RefusedError`."""
        votes = self._votes
        if votes is None or self._cosigned_note is not None or cosigned.size != votes.size:
            return
        try:
            votes.add(silo, cosigned.line)
        except SignatureError as error:
            raise refuse(
                RefusalCode.IDENTITY_SIGNATURE,
                expected=f"a cosignature of the checkpoint of {votes.size} entries by {silo}'s identity key",
                found=str(error),
                remedy="cosign with the key that the agreement names",
            ) from error
        if silo in self._sessions:
            self._sessions[silo].head = votes.size
        self._release_if_reached(votes)

    def count_witness(self, witness: str, cosigned: Cosigned) -> None:
        """Take a further witness's cosignature, also one that was not waited for. Raises `RefusedError`."""
        votes = self._votes
        if votes is None or cosigned.size != votes.size:
            return
        try:
            votes.add_witness(witness, cosigned.line)
        except SignatureError as error:
            raise refuse(
                RefusalCode.IDENTITY_SIGNATURE,
                expected=f"a cosignature of the checkpoint of {votes.size} entries by the witness {witness}",
                found=str(error),
                remedy="ask the witness whose key the agreement names",
            ) from error
        if witness in self._witness_heads:
            self._witness_heads[witness] = votes.size
        if self._cosigned_note is not None:
            self._ledger.add_cosignatures(votes.size, [cosigned.line])
            return
        self._release_if_reached(votes)

    def _release_if_reached(self, votes: Votes) -> None:
        if not votes.reached:
            if votes.owners_suffice:
                self._ports.event(f"release-waits size={votes.size} for={', '.join(votes.waiting_for)}")
            return
        self._ledger.saw_time(votes.time)
        self._ledger.add_cosignatures(votes.size, votes.lines)
        self._cosigned_note = votes.cosigned_note
        if self._attempt is not None:
            self._attempt.deadline = self._ports.clock() + self._agreement.federation.round_deadline_seconds
        for each in self.joined():
            self._greet(each)

    def _greet(self, silo: str) -> None:
        """Tell a silo what stands: that its cosignature is wanted or, after the quorum, what is announced."""
        session, history = self._sessions[silo], self._ledger.history
        if self._votes is None or session.head > self._votes.size or history.phase is Phase.COMMITTED:
            return
        if self._cosigned_note is None or self._state is None:
            self._ports.send(silo, self._announcer.cosign_request(self._votes, session.head))
            return
        if silo in history.barred and self._attempt is not None:
            return
        announcement = self._announcer.announcement(
            note=self._cosigned_note,
            size=self._votes.size,
            head=session.head,
            in_doubt=session.in_doubt,
            admission=self._desk.latest(silo),
            state=self._state,
        )
        session.head = self._votes.size
        if self._attempt is not None:
            self._attempt.announced.add(silo)
            session.in_doubt = (self._attempt.round, self._attempt.attempt)
        self._ports.send(silo, announcement)

    def _ask_witness(self, witness: str) -> None:
        """Ask a further witness to cosign what stands, unless it has."""
        votes, head = self._votes, self._witness_heads[witness]
        if votes is None or votes.witnessed(witness) or head > votes.size:
            return
        self._ports.ask(witness, self._announcer.cosign_request(votes, head))

    def _require_known(self, who: str, head: int) -> None:
        if head > self._ledger.size:
            raise refuse(
                RefusalCode.LOG_ROLLED_BACK,
                expected=f"silos and witnesses that know at most the log's {self._ledger.size} entries",
                found=f"{who}, which knows {head}",
                remedy="the appliance's store is older than what was cosigned: restore the newest one",
            )

    def _is_current(self, silo: str, now: int) -> bool:
        try:
            return silo in self._sessions and self._desk.current(silo, now) is not None
        except RefusedError:
            return False
