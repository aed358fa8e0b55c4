"""A silo's half of a recovery: what it is asked to authorise, and all that it checks before it does (record 0026).

An appliance that has lost the log's key asks its silos to let it go on under a new one. This silo's word for it is a
signature by its identity key over exactly that log and those keys. It gives none before its user has agreed, and none
for a log that is older than what it has seen: that is what keeps an operator from rolling the log back by "losing" a
key. Trusts its own agreement, identity and state. Pure but for the state's store: messages in, messages out. Called by
`strongroom silo recover`.
"""

from collections.abc import Callable, Sequence

from audit.grants import Recovered
from audit.note import Checkpoint
from protocol.agreement import Agreement, mismatch
from protocol.appraisal import appraise_appliance
from protocol.enrolment import NONCE_BYTES
from protocol.errors import RefusalCode, refuse
from protocol.keys import SigningKey, VerifyingKey
from protocol.recovery import (
    ASK_LABEL,
    OFFER_LABEL,
    STANDING_LABEL,
    RecoveryAsk,
    RecoveryOffer,
    RecoveryStanding,
    sign_grant,
)
from protocol.signed import open_message, sign_message, unverified_body
from silo_client.following import Following
from silo_client.state import SiloState
from silo_client.witness import Witness


class RecoveryDialog:
    """One recovery, as one silo sees it: `ask`, `catchup` and `caught_up` until there is nothing to ask, `offered`.

    Once the user has agreed: `grant`, `stands`.
    """

    def __init__(
        self,
        *,
        agreement: Agreement,
        silo: str,
        identity: SigningKey,
        state: SiloState,
        models: Sequence[bytes],
        random: Callable[[int], bytes],
    ) -> None:
        """`models`: contents of the models that this silo can hand back."""
        self._agreement = agreement
        self._silo = silo
        self._identity = identity
        self._state = state
        self._models = tuple(models)
        self._witness = Witness(agreement=agreement, silo=silo, identity=identity, state=state)
        self._following = Following(
            agreement=agreement, silo=silo, identity=identity, state=state, witness=self._witness
        )
        self._nonce = random(NONCE_BYTES)
        self._offer: tuple[RecoveryOffer, Checkpoint] | None = None

    def ask(self) -> bytes:
        """The signed `RecoveryAsk`; raises `RefusedError` (other-log) if this silo has never met the log."""
        if self._state.log_key is None:
            raise refuse(
                RefusalCode.OTHER_LOG,
                expected="a silo that has met the log before its key was lost",
                found=f"{self._silo}, which has not",
                remedy="it can't tell whether this is the newest state of the log: let the others authorise it",
            )
        ask = RecoveryAsk(
            silo=self._silo,
            agreement=self._agreement.digest,
            nonce=self._nonce,
            head=self._witness.known_size,
            models=self._models,
        )
        return sign_message(self._identity, ASK_LABEL, ask.encode())

    def catchup(self, message: bytes, now: int) -> bytes | None:
        """What to ask before an offer is looked at, if the key that is lost is another than this silo knows.

        None once nothing has to be asked. Raises what `offered` raises for checks 1 to 6.
        """
        offer = self._appraised(message, now)
        return self._following.question() if self._witness.may_follow(VerifyingKey(offer.previous)) else None

    def caught_up(self, message: bytes, answer: bytes) -> None:
        """Follow the log to the key that is lost; once it is adopted, `ask` anew. Raises as `Following.take` does."""
        offer = RecoveryOffer.parse(unverified_body(message))
        if self._following.take(answer, key=offer.previous, note=offer.checkpoint):
            self._following.adopt()

    def offered(self, message: bytes, now: int) -> RecoveryOffer:
        """Check the appliance's offer and return it, for the user to look at; nothing is authorised yet.

        1. it parses                                             `MalformedError`
        2. its agreement is ours, byte for byte                  agreement-mismatch, with both digests
        3. its log's origin is the agreement's                   other-log
        4. it is signed by the key that it names                 `SignatureError`
        5. it answers our nonce                                  stale-nonce
        6. evidence vouches for all its keys: for a recovery, under our own copy of the agreement and our nonce
                                                                 evidence-…
        7. the key that is lost is the one that we know, and the new one is another    other-log, log-rolled-back
        8. its checkpoint is signed by that key, no smaller than our head, and extends it    log-rolled-back, log-forked
        """
        offer = self._appraised(message, now)
        # 7
        checkpoint = Checkpoint.parse(offer.checkpoint.encode())
        self._witness.require_log(VerifyingKey(offer.previous), checkpoint)
        if offer.keys.log in (item.key.public for item in self._witness.log_keys.in_force):
            raise refuse(
                RefusalCode.OTHER_LOG,
                expected="a new log key in the place of the lost one",
                found="one that the log has, or has had",
                remedy="nothing is to be authorised; start the appliance without --recover",
            )
        # 8
        self._witness.follow(checkpoint, offer.consistency)
        self._offer = offer, checkpoint
        return offer

    def _appraised(self, message: bytes, now: int) -> RecoveryOffer:
        """Checks 1 to 6 of `offered`."""
        # 1
        offer = RecoveryOffer.parse(unverified_body(message))
        # 2
        if offer.agreement != self._agreement.digest:
            raise mismatch(self._agreement.digest, offer.agreement)
        # 3
        if offer.origin != self._agreement.log.origin:
            raise refuse(
                RefusalCode.OTHER_LOG,
                expected=f"the log {self._agreement.log.origin}",
                found=offer.origin[:120],
                remedy="check the appliance's address in silo.toml",
            )
        # 4
        open_message(offer.keys.signing_key, OFFER_LABEL, message, "recovery offer")
        # 5
        if offer.nonce != self._nonce:
            raise refuse(
                RefusalCode.STALE_NONCE,
                expected="an answer to this silo's nonce",
                found="an answer to another",
                remedy="somebody repeats an old offer: ask again, over another network if it persists",
            )
        # 6
        appraise_appliance(
            offer.evidence,
            self._agreement,
            offer.expected_report_data(self._nonce),
            max(now, self._state.cosigned_at),
        )
        return offer

    def converse(self, hello: Callable[[bytes], bytes], now: int) -> RecoveryOffer:
        """The offer, after as many questions as it takes; `hello` sends a message and returns the answer."""
        while True:
            message = hello(self.ask())
            question = self.catchup(message, now)
            if question is None:
                return self.offered(message, now)
            self.caught_up(message, hello(question))

    def grant(self) -> bytes:
        """Authorise what was offered, once the user has agreed: the signed grant, for the appliance.

        The log that it is for is this silo's head from then on, durably, before the grant can leave: whatever the
        appliance shows later must extend it. A crash in between has authorised nothing; asking again is harmless.
        """
        offer, checkpoint = self._offered()
        recovered = Recovered(
            boot_id=offer.boot_id,
            keys=offer.keys,
            previous=offer.previous,
            size=checkpoint.size,
            root=checkpoint.root,
        )
        signed = sign_grant(self._identity, recovered.grant(self._agreement, self._silo, self._models))
        self._state.keep_grant(f"{checkpoint.size:08d}-{offer.boot_id.hex()[:16]}", signed)
        self._state.advance(checkpoint.with_lines_by([self._witness.log_key]))
        return signed

    def stands(self, message: bytes) -> RecoveryStanding:
        """The appliance's answer to a grant; raises `MalformedError`, `SignatureError`, `RefusedError` (wrong-boot)."""
        offer, _ = self._offered()
        body = open_message(offer.keys.signing_key, STANDING_LABEL, message, "answer to the grant")
        standing = RecoveryStanding.parse(body)
        if standing.boot_id != offer.boot_id:
            raise refuse(
                RefusalCode.WRONG_BOOT,
                expected=f"an answer of boot {offer.boot_id.hex()[:16]}…, which this silo has authorised",
                found=f"one of boot {standing.boot_id.hex()[:16]}…",
                remedy="ask again",
            )
        return standing

    def _offered(self) -> tuple[RecoveryOffer, Checkpoint]:
        if self._offer is None:
            raise ValueError("nothing was offered yet")
        return self._offer
