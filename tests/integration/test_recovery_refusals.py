"""What a silo does not authorise, and what an appliance that waits for silos' leave does not take for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from lost_key import copy_of, federation_of, lose, reached, recovered, run_to_the_end
from memory_federation import MemoryFederation, signing_key

from appliance.enclave.boot import Boot
from appliance.enclave.recovering import Recovering
from attestation.collect.platform import SimulatedPlatform
from audit.note import Checkpoint
from audit.store import MemoryStore
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.keys import SigningKey
from protocol.recovery import (
    ASK_LABEL,
    GRANT_LABEL,
    OFFER_LABEL,
    STANDING_LABEL,
    RecoveryAsk,
    RecoveryGrant,
    RecoveryOffer,
    RecoveryStanding,
    is_ask,
)
from protocol.signed import sign_message, unverified_body
from silo_client.recovery import RecoveryDialog
from silo_client.witness import LogBrokenError


@pytest.fixture(scope="module")
def stopped() -> tuple[MemoryFederation, dict[str, MemoryStore]]:
    """A federation without its keys, and what its silos remembered at that moment."""
    made = federation_of(2)
    made.run(until=lambda: reached("update.accepted", 1)(made))
    lose(made.store)
    return made, {name: copy_of(store) for name, store in made.silo_stores.items()}


@pytest.fixture
def made(stopped: tuple[MemoryFederation, dict[str, MemoryStore]]) -> MemoryFederation:
    """The appliance waits for the silos' leave."""
    made, remembered = stopped
    made.silo_stores = {name: copy_of(store) for name, store in remembered.items()}
    made.recover(store=copy_of(made.store))
    return made


def core(made: MemoryFederation) -> Recovering:
    assert isinstance(made.enclave, Recovering)
    return made.enclave


def dialog_of(made: MemoryFederation, name: str = "silo-0") -> RecoveryDialog:
    kept = made.kept(name)
    return RecoveryDialog(
        agreement=made.agreement,
        silo=name,
        identity=signing_key(name),
        state=kept._state,
        models=(),
        random=lambda size: b"n" * size,
    )


class TestOffers:
    """An appliance, or somebody before it, offers what must not be authorised."""

    def offer(self, made: MemoryFederation, dialog: RecoveryDialog, signer: SigningKey | None = None, **changes):  # type: ignore[no-untyped-def]
        honest = RecoveryOffer.parse(unverified_body(made.enclave.hello(dialog.ask())))
        return sign_message(signer or core(made)._boot.signing, OFFER_LABEL, replace(honest, **changes).encode())

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"agreement": bytes(32)}, RefusalCode.AGREEMENT_MISMATCH),
            ({"origin": "simulated.log.example/other"}, RefusalCode.OTHER_LOG),
            ({"nonce": bytes(32)}, RefusalCode.STALE_NONCE),
            ({"boot_id": bytes(32)}, RefusalCode.EVIDENCE_REFUSED),
            ({"previous": signing_key("another log").public.raw}, RefusalCode.OTHER_LOG),
        ],
    )
    def test_another_than_it_should_be(self, made: MemoryFederation, changes: dict, code: RefusalCode) -> None:  # type: ignore[type-arg]
        dialog = dialog_of(made)

        def hello(message: bytes) -> bytes:
            return self.offer(made, dialog, **changes) if is_ask(message) else made.enclave.hello(message)

        with pytest.raises(RefusedError) as refused:
            dialog.converse(hello, made.now)
        assert refused.value.refusal.code is code
        with pytest.raises(ValueError, match="nothing was offered yet"):
            dialog.grant()

    def test_evidence_for_an_enrolment(self, made: MemoryFederation) -> None:
        """An appliance's evidence over the same nonce, of another day and for another purpose."""
        dialog, boot = dialog_of(made), core(made)._boot
        evidence = boot.evidence_for(b"n" * 32).encode()
        with pytest.raises(RefusedError, match="evidence-refused"):
            dialog.offered(self.offer(made, dialog, evidence=evidence), made.now)

    def test_other_code(self, made: MemoryFederation) -> None:
        dialog = dialog_of(made)
        boot = Boot.begin(
            agreement=made.agreement.digest,
            origin=made.agreement.log.origin,
            log_key=signing_key("operator"),
            platform=SimulatedPlatform(bytes(48)),
            random=lambda size: b"r" * size,
            now=made.now,
        )
        evidence = boot.evidence_for(b"n" * 32, "recovery").encode()
        changes = {"keys": boot.keys, "boot_id": boot.boot_id, "evidence": evidence}
        with pytest.raises(RefusedError, match="evidence-refused"):
            dialog.offered(self.offer(made, dialog, signer=boot.signing, **changes), made.now)

    def test_a_signature_of_somebody_else(self, made: MemoryFederation) -> None:
        dialog = dialog_of(made)
        with pytest.raises(SignatureError, match="recovery offer: the signature is not by"):
            dialog.offered(self.offer(made, dialog, signer=signing_key("operator")), made.now)

    @pytest.mark.parametrize("message", [b"", bytes(64), bytes(64) + b"{}"])
    def test_no_offer_at_all(self, made: MemoryFederation, message: bytes) -> None:
        with pytest.raises(MalformedError):
            dialog_of(made).offered(message, made.now)

    def test_a_log_of_fewer_entries_than_the_silo_knows(self, made: MemoryFederation) -> None:
        """The silo finds out by itself: an appliance that says so is honest."""
        dialog, known = dialog_of(made), made.kept("silo-0")._state.head
        assert known is not None
        older = core(made)._ledger._log.checkpoint_at(known.size - 3)
        with pytest.raises(LogBrokenError, match=f"log-rolled-back: expected a log of at least the {known.size} ent"):
            dialog.offered(self.offer(made, dialog, checkpoint=older.encode().decode()), made.now)

    def test_a_log_that_does_not_extend_what_the_silo_knows(self, made: MemoryFederation) -> None:
        dialog = dialog_of(made)
        offer = RecoveryOffer.parse(unverified_body(made.enclave.hello(dialog.ask())))
        proof = replace(offer.consistency, hashes=tuple(bytes(32) for _ in offer.consistency.hashes))
        with pytest.raises(LogBrokenError, match="log-forked"):
            dialog.offered(self.offer(made, dialog, consistency=proof), made.now)

    def test_a_checkpoint_that_the_lost_key_did_not_sign(self, made: MemoryFederation) -> None:
        dialog, operator = dialog_of(made), signing_key("operator")
        head = Checkpoint.parse(core(made)._ledger.checkpoint_text.encode()).head
        forged = Checkpoint.sign(made.agreement.log.origin, head, operator).encode().decode()
        with pytest.raises(SignatureError):
            dialog.offered(self.offer(made, dialog, checkpoint=forged), made.now)

    def test_a_silo_that_never_met_the_log_authorises_nothing(self, made: MemoryFederation) -> None:
        made.silo_stores["silo-0"] = MemoryStore()
        with pytest.raises(RefusedError, match="other-log: expected a silo that has met the log before"):
            made.asks("silo-0")

    def test_an_answer_that_the_boot_did_not_sign(self, made: MemoryFederation) -> None:
        dialog, _ = made.asks("silo-0")
        answer = made.enclave.enrol(dialog.grant())
        with pytest.raises(SignatureError, match="answer to the grant"):
            dialog.stands(sign_message(signing_key("operator"), STANDING_LABEL, unverified_body(answer)))
        other = replace(RecoveryStanding.parse(unverified_body(answer)), boot_id=bytes(32))
        with pytest.raises(RefusedError, match="wrong-boot"):
            dialog.stands(sign_message(core(made)._boot.signing, STANDING_LABEL, other.encode()))


def test_a_silo_remembers_what_it_authorised_before_that_leaves(made: MemoryFederation) -> None:
    dialog, offer = made.asks("silo-0")
    grant = dialog.grant()
    state, size = made.kept("silo-0")._state, core(made)._ledger.size
    assert state.head is not None
    assert state.head.size == size
    (kept,) = state.files.list(state.path("grants/"))
    assert state.files.read(kept) == grant
    assert kept.endswith(f"{size:08d}-{offer.boot_id.hex()[:16]}.grant")


class TestAsks:
    """Whoever asks must be a silo of the agreement."""

    def ask(self, made: MemoryFederation, signer: str = "silo-0", **changes: object) -> bytes:
        honest = RecoveryAsk.parse(unverified_body(dialog_of(made).ask()))
        return sign_message(signing_key(signer), ASK_LABEL, replace(honest, **changes).encode())  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("forge", "said"),
        [
            (lambda self, made: self.ask(made, agreement=bytes(32)), "agreement-mismatch"),
            (lambda self, made: self.ask(made, silo="nobody"), "unknown-silo"),
            (
                lambda self, made: self.ask(made, signer="silo-1"),
                "identity-signature: expected a recovery-ask",
            ),
            (lambda self, made: self.ask(made, head=10_000), "log-rolled-back: expected silos that know at most"),
            (lambda self, made: sign_message(signing_key("silo-0"), ASK_LABEL, b"{}"), "busy"),
            (lambda self, made: b"", "busy"),
        ],
    )
    def test_it_is_refused(self, made: MemoryFederation, forge: Callable[..., bytes], said: str) -> None:
        with pytest.raises(RefusedError, match=said):
            made.enclave.hello(forge(self, made))

    def test_what_is_lost_is_said(self, made: MemoryFederation) -> None:
        _, offer = made.asks("silo-1")
        loss = offer.loss
        assert (loss.rounds, loss.controls, loss.yours, loss.held) == (1, True, 0, 0)
        assert loss.attempt is not None
        assert (loss.attempt.round, loss.attempt.attempt) == (2, 1)
        _, offer = made.asks("silo-0")
        assert (offer.loss.yours, offer.loss.held) == (1, 1)
        _, offer = made.asks("silo-1")
        assert (offer.loss.yours, offer.loss.held) == (0, 1)
        dialog = dialog_of(made, "silo-2")
        assert dialog.converse(made.enclave.hello, made.now).loss.yours is None


class TestGrants:
    """What does not count: nothing but the named silo's own word for this boot, these keys and this log."""

    def grant(self, made: MemoryFederation, name: str, signer: str | None = None, **changes: object) -> bytes:
        dialog, _ = made.asks(name)
        honest = RecoveryGrant.parse(unverified_body(dialog.grant()))
        return sign_message(signing_key(signer or name), GRANT_LABEL, replace(honest, **changes).encode())  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("signer", "changes", "said"),
        [
            ("silo-1", {}, "identity-signature"),
            (None, {"silo": "silo-1"}, "identity-signature"),
            (None, {"silo": "nobody"}, "unknown-silo"),
            (None, {"boot_id": bytes(32)}, "wrong-boot: expected a grant for boot"),
            (None, {"keys": bytes(32)}, "digest of the new keys: expected"),
            (None, {"previous": signing_key("other").public.raw}, "key that is lost: expected"),
            (None, {"agreement": bytes(32)}, "agreement: expected"),
            (None, {"origin": "simulated.other"}, "log: expected"),
            (None, {"size": 5}, "size: expected"),
            (None, {"root": bytes(32)}, "root: expected"),
        ],
    )
    def test_it_is_refused(
        self, made: MemoryFederation, signer: str | None, changes: dict[str, object], said: str
    ) -> None:
        made.authorise("silo-0", "silo-1")
        with pytest.raises(RefusedError, match=said):
            made.enclave.enrol(self.grant(made, "silo-2", signer, **changes))
        assert made.enclave.describe().phase == "recovering"

    def test_a_grant_that_comes_again_counts_once_and_is_answered_again(self, made: MemoryFederation) -> None:
        dialog, _ = made.asks("silo-0")
        grant = dialog.grant()
        for _ in range(4):
            assert dialog.stands(made.enclave.enrol(grant)).owners == ("owner-0",)
        made.authorise("silo-1", "silo-2")
        standing = dialog.stands(made.enclave.enrol(grant))
        assert (len(standing.owners), standing.recovered) == (3, made.enclave.describe().log_size)

    def test_a_grant_for_the_boot_before(self, made: MemoryFederation) -> None:
        """Grants die with the boot that they are for; silos give them again to the next."""
        dialog, _ = made.asks("silo-0")
        grant = dialog.grant()
        made.authorise("silo-1")
        made.recover()
        with pytest.raises(RefusedError, match="wrong-boot.*run `strongroom silo recover` again"):
            made.enclave.enrol(grant)
        standing = made.authorise("silo-0")
        assert standing is not None
        assert standing.owners == ("owner-0",)


@pytest.mark.slow
def test_one_owner_has_one_vote() -> None:
    made = federation_of(2, owners=("a", "a", "b", "c", "d"))
    made.run(until=lambda: reached("update.accepted", 1)(made))
    lose(made.store)
    made.recover()
    assert made.agreement.log.cosigners == 3
    standing = made.authorise("silo-0", "silo-1", "silo-2")
    assert standing is not None
    assert (standing.owners, standing.recovered) == (("a", "b"), None)
    made.authorise("silo-4")
    assert recovered(made).size > 0
    for terms in made.agreement.silos:
        made.enrol(made.silo(terms.name))
    run_to_the_end(made)
