"""When a witness cosigns (C2SP tlog-witness `add-checkpoint`): one history a log, and never a smaller head again.

It believes nothing but the logs' keys that its operator gave it and the heads that it persisted itself. The checks, in
this order, numbered again below:

1. the request parses (400)
2. the checkpoint's origin is a log that this witness knows (404)
3. a key of that log signed it, and no line of such a key is false (403)
4. the old size is no larger than the checkpoint's (400)
5. the old size is that of the newest cosigned checkpoint, 0 before the first (409, with that size)
6. at that size, the root is the same (409)
7. the proof leads from the newest cosigned checkpoint to this one (422)

From 5 on one request at a time: between the check and the new head on disk there must be no other. Where 6 or 7 fails
both notes are kept, each signed by the log. Two roots of one size convict it; a bad proof anybody can send. Called by
the server of `strongroom witness serve`; the silos' own witness is `silo_client.witness`.
"""

import threading
from collections.abc import Callable

from audit.merkle import ProofError, verify_consistency
from audit.note import Checkpoint
from audit.witnessing.answer import NOT_A_REQUEST, NOT_CONSISTENT, NOT_THE_LOGS, UNKNOWN_LOG, Answer
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import KnownLog, WitnessState
from protocol.agreement_toml import printable
from protocol.errors import MalformedError, SignatureError
from protocol.keys import SigningKey

_FORK, _UNPROVEN = "fork", "unproven"


class Witness:
    """One witness, for any number of logs. `add_checkpoint` may be called from any thread.

    `event` takes one printable line for the operator where a log contradicts itself.
    """

    def __init__(
        self, *, key: SigningKey, state: WitnessState, clock: Callable[[], int], event: Callable[[str], None]
    ) -> None:
        """`clock`: unix seconds. `ValueError` unless the state is that of this key."""
        if key.public.raw != state.key.public:
            raise ValueError("witness: expected the state of this key")
        self._key = key
        self._state = state
        self._clock = clock
        self._event = event
        self._deciding = threading.Lock()

    def add_checkpoint(self, body: bytes) -> Answer:
        """Judge a request. Raises `StoreError` if the memory can't be written: then nothing is cosigned."""
        # 1
        try:
            request = AddCheckpoint.parse(body)
        except MalformedError as error:
            return Answer.refused(NOT_A_REQUEST, printable(str(error)))
        checkpoint = request.checkpoint
        # 2
        known = self._state.log(checkpoint.origin)
        if known is None:
            return Answer.refused(UNKNOWN_LOG, "a log that this witness does not know")
        # 3
        try:
            signed_by = tuple(verified.key for verified in checkpoint.note.verify(known.keys))
        except SignatureError as error:
            return Answer.refused(NOT_THE_LOGS, printable(str(error)))
        # 4
        if request.old_size > checkpoint.size:
            return Answer.refused(NOT_A_REQUEST, f"expected old of at most {checkpoint.size}")
        # The log's own lines alone: what is kept, and what a fork is shown by.
        with self._deciding:
            return self._decide(request.old_size, request.proof, checkpoint.with_lines_by(signed_by))

    def _decide(self, old_size: int, proof: tuple[bytes, ...], checkpoint: Checkpoint) -> Answer:
        known = self._state.log(checkpoint.origin)
        if known is None:
            return Answer.refused(UNKNOWN_LOG, "a log that this witness does not know")
        head = known.head
        # 6, whatever old size was said
        if checkpoint.size == head.size and checkpoint.root != head.root:
            self._keep(known, checkpoint, _FORK, f"another tree of the {head.size} entries that were cosigned")
            return Answer.conflict(head.size)
        # 5
        if old_size != head.size:
            return Answer.conflict(head.size)
        # 7
        try:
            verify_consistency(old=head, new=checkpoint.head, proof=proof)
        except ProofError as error:
            self._keep(known, checkpoint, _UNPROVEN, f"{checkpoint.size} entries not shown to extend {head.size}")
            return Answer.refused(NOT_CONSISTENT, printable(str(error)))
        time = max(self._clock(), known.cosigned_at, 1)
        self._state.advance(known, checkpoint, cosigned_at=time)
        # A crash here has cosigned nothing, and the head is never smaller than what was cosigned.
        return Answer.cosigned(checkpoint.cosign(self._state.key.name, self._key, time=time))

    def _keep(self, known: KnownLog, checkpoint: Checkpoint, what: str, found: str) -> None:
        folder = self._state.keep_evidence(known, checkpoint, what)
        if folder is not None:
            self._event(f"not-cosigned log={printable(known.origin)} found={found}; both notes are kept in {folder}")
