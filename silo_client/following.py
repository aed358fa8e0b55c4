"""From the log key that a silo knows to the one that the log has now, over as many answers as it takes.

Nothing is kept before the way is shown whole: every change by the key before it, or after a loss by the silos' grants
(`audit.key_history`). Called by a silo's enrolment, and by its half of a recovery.
"""

from audit.grants import verify_grants
from audit.key_history import NOTHING, Followed, KeyChangeError, follow
from audit.log_keys import LogKeys
from audit.merkle import TreeHead
from audit.note import Checkpoint
from protocol.agreement import Agreement
from protocol.key_history import CATCHUP_LABEL, Catchup, KeyChange, KeyHistory
from protocol.keys import SigningKey
from protocol.signed import sign_message
from silo_client.state import SiloState
from silo_client.witness import Witness


class Following:
    """One silo's way to a log's present key: `question` and `take` until the key is reached, `adopt`."""

    def __init__(
        self, *, agreement: Agreement, silo: str, identity: SigningKey, state: SiloState, witness: Witness
    ) -> None:
        self._agreement = agreement
        self._silo = silo
        self._identity = identity
        self._state = state
        self._witness = witness
        self._followed: Followed | None = None
        self._changes: dict[int, KeyChange] = {}

    def question(self) -> bytes:
        """The signed `Catchup`: which changes came after the keys that are known by now?"""
        keys, head = self._known()
        catchup = Catchup(
            silo=self._silo, agreement=self._agreement.digest, log_key=keys.current.public, head=head.size
        )
        return sign_message(self._identity, CATCHUP_LABEL, catchup.encode())

    def take(self, answer: bytes, *, key: bytes, note: str) -> bool:
        """Follow an answer; whether the log's `key` (32 bytes) is reached, so that it may be adopted.

        `note`: the checkpoint that came with that key, kept as evidence if the way does not lead there. Raises
        `LogBrokenError` (other-log), `MalformedError`.
        """
        history = KeyHistory.parse(answer)
        keys, head = self._known()
        try:
            followed = follow(history, agreement=self._agreement, keys=keys, head=head, verify_grants=verify_grants)
        except KeyChangeError as error:
            raise self._witness.refuse_keys(error, answer, Checkpoint.parse(note.encode())) from error
        self._followed = followed
        for change in history.changes:
            self._changes[change.logged.index] = change
        return followed.keys.current.public == key

    def adopt(self) -> None:
        """Take the key that was reached for the log's, for good; durable on return."""
        if self._followed is None:
            raise ValueError("no key was reached yet")
        self._witness.adopt(self._followed, self._changes.values())

    def _known(self) -> tuple[LogKeys, TreeHead]:
        """The log's keys and its head, as far as they are known by now."""
        if self._followed is not None:
            return self._followed.keys, self._followed.checkpoint.head
        head = self._state.head
        return self._witness.log_keys, NOTHING if head is None else head.head
