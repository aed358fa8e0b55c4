"""What silos are told: cosign requests before the quorum, announcements with the models' keys after it.

A key is handed out here and nowhere else, and only by `announcement`, which takes the checkpoint's note with the
quorum's cosignatures. Called by `Enclave` under its lock.
"""

from appliance.enclave.admission import Admission
from appliance.enclave.boot import Boot
from appliance.enclave.ledger import Ledger
from appliance.enclave.sealed_state import BodySecret, EnclaveState
from appliance.enclave.votes import Votes
from audit.phases import Phase
from protocol.sealing import BlobKind, ContentKey, ModelKey, ModelKeyTerms, key_digest
from protocol.session import Announcement, Body, CosignRequest


class Announcer:
    """Builds the messages to one silo."""

    def __init__(self, *, boot: Boot, ledger: Ledger) -> None:
        self._boot = boot
        self._ledger = ledger

    def cosign_request(self, votes: Votes, head: int) -> bytes:
        """Ask a silo whose head is `head` entries to cosign."""
        return CosignRequest(checkpoint=votes.note, consistency=self._ledger.consistency(head, votes.size)).encode()

    def announcement(
        self,
        *,
        note: str,
        size: int,
        head: int,
        in_doubt: tuple[int, int] | None,
        admission: Admission,
        state: EnclaveState,
    ) -> bytes:
        """Announce the open attempt, or the end.

        `note`: the checkpoint of `size` entries, cosigned by the quorum; `head`: how many the silo knows; `in_doubt`:
        the (round, attempt) whose outcome it has to learn.
        """
        history = self._ledger.history
        ended = None if in_doubt is None else history.outcomes.get(in_doubt)
        outcome = None if ended is None else self._ledger.logged(ended.index, size)
        if state.model is None:
            raise ValueError("there is no model to announce")
        return Announcement(
            checkpoint=note,
            consistency=self._ledger.consistency(head, size),
            opened=self._ledger.logged(history.opened_index, size),
            outcome=outcome,
            model=self._body(BlobKind.MODEL, state.model, admission),
            control=None if state.control is None else self._body(BlobKind.CONTROL, state.control, admission),
        ).encode()

    def _body(self, kind: BlobKind, body: BodySecret, admission: Admission) -> Body:
        history = self._ledger.history
        closed = history.phase is Phase.CLOSED
        terms = ModelKeyTerms(
            kind=str(kind),
            body=body.digest,
            agreement=self._boot.agreement,
            boot_id=self._boot.boot_id,
            round=history.published_rounds if closed else history.round,
            attempt=0 if closed else history.attempt,
            recipient=admission.silo,
            recipient_key=key_digest(admission.keys.sealing_key),
        )
        key = ModelKey.seal(ContentKey(body.key), terms, admission.keys.sealing_key, self._boot.signing)
        return Body(name=body.name, digest=body.digest, key=key)
