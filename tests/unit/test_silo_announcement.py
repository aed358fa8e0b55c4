"""What an announcement must show before a silo trains on it, and what it does to the silo's control variate."""

import os
from dataclasses import replace

import pytest
import torch
from silo_appliance import (
    ALL,
    NOW,
    SILO,
    FakeAppliance,
    body_format,
    example,
    head_size,
    parameters,
    silo_machine,
)

from audit.entries import CohortMember, Entry, LogRecovered, RoundAbandoned, RoundPublished, SiloRefused
from audit.merkle import ProofError
from audit.quorum import QuorumError
from audit.store import MemoryStore
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.keys import SEALING_SEED_BYTES, SealingKey, SigningKey
from protocol.sealing import BlobKind
from protocol.session import Announcement, Join, LoggedEntry, LostModel, WantInitial
from protocol.update import UpdateMetadata
from silo_client.announcement import MissingOutcomeError
from silo_client.bodies import read_control, seal_update
from silo_client.machine import Finish, Ignore, Resume, Send, SendInitial, SiloMachine, Train
from silo_client.state import SealedUpdate
from silo_client.witness import LogBrokenError


@pytest.fixture
def appliance() -> FakeAppliance:
    return FakeAppliance(*example())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def machine(appliance: FakeAppliance, store: MemoryStore) -> SiloMachine:
    machine = silo_machine(appliance.agreement, store)
    appliance.enrol(machine)
    machine.handle(appliance.cosign_request(0))
    return machine


def announce(
    appliance: FakeAppliance, machine: SiloMachine, number: int = 1, attempt: int = 1, **changes: object
) -> Train:
    appliance.append(appliance.opened(number, attempt, **changes))
    step = machine.handle(appliance.announcement(head_size(machine), moment=(number, attempt)))
    assert isinstance(step, Train)
    return step


def submit(appliance: FakeAppliance, machine: SiloMachine, step: Train, change: float = 1.0) -> SealedUpdate:
    """Seal an update that moves every control by `change`."""
    c_i = read_control(machine.state, appliance.layout)
    d_i = torch.full_like(c_i, change)
    update = seal_update(
        parameters(d_i),
        c_i + d_i,
        UpdateMetadata(steps=1, step_size_sum=0.1, metrics={}),
        opened=step.entry,
        state=machine.state,
        form=body_format(appliance.agreement, appliance.layout),
    )
    assert machine.hold(update)
    return update


def publish(appliance: FakeAppliance, update: SealedUpdate, *, silo: str = SILO, **changes: object) -> int:
    member = CohortMember(silo=silo, upload_id=update.upload_id, update=update.digest, weight=1.0)
    entry = RoundPublished(
        time=NOW,
        round=update.round,
        attempt=update.attempt,
        model_in=bytes(32),
        model_out=bytes(32),
        control_in=None,
        control_out=None,
        cohort=(member,),
        state=bytes(32),
    )
    return appliance.append(replace(entry, **changes))  # type: ignore[arg-type]


def abandon(appliance: FakeAppliance, update: SealedUpdate) -> int:
    return appliance.append(
        RoundAbandoned(time=NOW, round=update.round, attempt=update.attempt, reason="restart", silo=None)
    )


def control(machine: SiloMachine, appliance: FakeAppliance) -> float:
    return float(read_control(machine.state, appliance.layout)[0])


def test_a_good_round_is_trained(appliance: FakeAppliance, machine: SiloMachine) -> None:
    step = announce(appliance, machine)
    assert (step.entry.round, step.entry.attempt, step.outcome) == (1, 1, None)
    assert step.model.signer == appliance.log_key.public
    assert head_size(machine) == appliance.log.size
    assert machine.is_current(step.entry)


class TestChecks:
    """By the numbers of `silo_client.announcement`."""

    def test_1_a_log_that_was_rolled_back(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.opened())
        old = appliance.announcement(3)
        again = silo_machine(appliance.agreement, MemoryStore())
        appliance.enrol(again)
        again.handle(appliance.cosign_request(0))
        with pytest.raises(LogBrokenError, match="log-rolled-back"):
            again.handle(old)

    def test_1_a_fork(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
        fork.enrol(silo_machine(appliance.agreement, MemoryStore()))
        fork.append(fork.opened(), fork.opened())
        with pytest.raises(LogBrokenError, match="log-forked"):
            machine.handle(fork.announcement(3))

    def test_1_a_checkpoint_by_another_key(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        other = FakeAppliance(appliance.agreement, appliance.layout)
        other.enrol(silo_machine(appliance.agreement, MemoryStore()))
        other.append(other.opened())
        with pytest.raises(SignatureError):
            machine.handle(other.announcement(3, cosigners=()))

    @pytest.mark.parametrize("cosigners", [(), ALL[:1], ALL[1:3]])
    def test_2_too_few_owners(self, appliance: FakeAppliance, machine: SiloMachine, cosigners: tuple[str, ...]) -> None:
        appliance.append(appliance.opened())
        with pytest.raises(QuorumError, match="expected cosignatures of 3 owners, found"):
            machine.handle(appliance.announcement(3, cosigners=cosigners))

    def test_2_two_silos_of_one_owner_have_one_vote(self) -> None:
        agreement, layout = example(**{'owner = "owner-1"': 'owner = "owner-0"'})
        appliance = FakeAppliance(agreement, layout)
        machine = silo_machine(agreement, MemoryStore())
        appliance.enrol(machine)
        appliance.append(appliance.opened())
        with pytest.raises(QuorumError):
            machine.handle(appliance.announcement(0, cosigners=ALL[:3]))
        assert isinstance(machine.handle(appliance.announcement(0, cosigners=ALL)), Train)

    def test_3_an_entry_that_is_not_in_the_log(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        index = appliance.append(appliance.opened())
        forged = replace(appliance.logged(index), entry=appliance.opened(local_steps=1).encode())
        with pytest.raises(ProofError):
            machine.handle(appliance.announcement(3, opened=forged))

    def test_4_another_boot(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.opened(boot_id=bytes(32)))
        with pytest.raises(RefusedError, match="wrong-boot: expected a round of the boot"):
            machine.handle(appliance.announcement(3))

    def test_4_an_entry_of_another_kind(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(SiloRefused(time=NOW, boot_id=appliance.boot_id, silo=SILO, code="busy", request=bytes(32)))
        with pytest.raises(
            MalformedError, match=r"expected a round\.opened, log\.closed or log\.superseded entry, found silo\.refused"
        ):
            machine.handle(appliance.announcement(3))

    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            ("strategy", "fedavg", "expected strategy scaffold, as agreed, found fedavg"),
            ("local_steps", 11, "expected local_steps 10, as agreed, found 11"),
            ("learning_rate", 0.2, r"expected learning_rate 0\.1, as agreed, found 0\.2"),
            ("server_learning_rate", 2.0, r"expected server_learning_rate 1\.0, as agreed, found 2\.0"),
            ("deadline_seconds", 61, "expected round_deadline_seconds 60, as agreed, found 61"),
            ("round", 41, "expected rounds 1 to 40, as agreed, found 41"),
            ("round", 0, "expected rounds 1 to 40, as agreed, found 0"),
            ("model", bytes(32), f"expected the initial model sha256:[0-9a-f]+, as agreed, found sha256:{'00' * 32}"),
        ],
    )
    def test_5_terms_that_were_not_agreed(
        self, appliance: FakeAppliance, machine: SiloMachine, field: str, value: object, text: str
    ) -> None:
        appliance.append(appliance.opened(**{field: value}))
        with pytest.raises(RefusedError, match=f"agreement-mismatch: {text}"):
            machine.handle(appliance.announcement(3))

    def test_6_a_control_that_is_named_and_not_given(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.opened(control=bytes(32)))
        with pytest.raises(MalformedError, match="expected the control that the entry names"):
            machine.handle(appliance.announcement(3))

    def test_6_a_control_that_is_given_and_not_named(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.opened())
        body = appliance.body(appliance.seal(parameters(torch.zeros(5)), BlobKind.CONTROL), of=BlobKind.CONTROL)
        with pytest.raises(MalformedError, match="found one"):
            machine.handle(appliance.announcement(3, control=body))

    def test_7_an_older_control_epoch(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        announce(appliance, machine, 1, 1, control_epoch=2)
        appliance.append(appliance.opened(1, 2, control_epoch=1))
        with pytest.raises(RefusedError, match="expected control epoch 2 or later, found 1"):
            machine.handle(appliance.announcement(head_size(machine), moment=(1, 2)))

    def test_9_a_round_that_was_sealed_before(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        update = submit(appliance, machine, announce(appliance, machine, 2))
        outcome = publish(appliance, update)
        index = appliance.append(appliance.opened(1, 7))
        message = appliance.announcement(head_size(machine), index=index, outcome=outcome, moment=(1, 7))
        with pytest.raises(RefusedError, match="wrong-round: expected a round after attempt 1 of round 2"):
            machine.handle(message)

    def test_9_the_round_whose_outcome_is_known(
        self, appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine, 2))
        outcome = publish(appliance, update)
        appliance.append(appliance.opened(3))
        machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(3, 1)))
        # To a process that has heard of nothing newer, the same moment again is old news.
        again = silo_machine(appliance.agreement, store)
        appliance.enrol(again)
        index = appliance.append(appliance.opened(2))
        assert isinstance(again.handle(appliance.announcement(head_size(again), index=index, moment=(2, 1))), Ignore)

    @pytest.mark.parametrize("older", [(1, 2), (2, 1)])
    def test_9_a_repeated_announcement_of_a_moment_that_was_not_sealed(
        self, appliance: FakeAppliance, machine: SiloMachine, older: tuple[int, int]
    ) -> None:
        """Every checkpoint on the way is authentic, and this process knows it; only the order tells."""
        appliance.append(appliance.opened(*older))
        repeated = appliance.announcement(head_size(machine), moment=older)
        assert isinstance(machine.handle(repeated), Train)
        newest = announce(appliance, machine, 2, 2)
        with pytest.raises(RefusedError) as refused:
            machine.handle(repeated)
        assert str(refused.value) == (
            "wrong-round: expected attempt 2 of round 2, which was announced to this silo, or a later one, "
            f"found attempt {older[1]} of round {older[0]}; "
            "the appliance repeats an old announcement: do not train on it"
        )
        # What it trains is not given up for it.
        assert machine.is_current(newest.entry)
        submit(appliance, machine, newest)

    def test_9_a_repeated_announcement_of_the_round_that_was_sealed_last(
        self, appliance: FakeAppliance, machine: SiloMachine
    ) -> None:
        appliance.append(appliance.opened())
        repeated = appliance.announcement(head_size(machine))
        step = machine.handle(repeated)
        assert isinstance(step, Train)
        outcome = publish(appliance, submit(appliance, machine, step))
        appliance.append(appliance.opened(2))
        step = machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(2, 1)))
        assert isinstance(step, Train)
        with pytest.raises(RefusedError, match="wrong-round: expected attempt 1 of round 2, which was announced"):
            machine.handle(repeated)
        submit(appliance, machine, step)


class TestModelKeys:
    """The key that was handed to this silo, for this body, boot, round and attempt, and for nothing else."""

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("kind", "control", RefusalCode.WRONG_MODEL),
            ("body", bytes(32), RefusalCode.WRONG_MODEL),
            ("agreement", bytes(32), RefusalCode.AGREEMENT_MISMATCH),
            ("boot_id", bytes(32), RefusalCode.WRONG_BOOT),
            ("round", 2, RefusalCode.WRONG_ROUND),
            ("attempt", 2, RefusalCode.WRONG_ROUND),
            ("recipient", "silo-1", RefusalCode.WRONG_MODEL),
        ],
    )
    def test_other_terms(
        self, appliance: FakeAppliance, machine: SiloMachine, field: str, value: object, code: RefusalCode
    ) -> None:
        appliance.append(appliance.opened())
        body = appliance.body(appliance.model(), **{field: value})
        with pytest.raises(RefusedError) as error:
            machine.handle(appliance.announcement(3, model=body))
        assert error.value.refusal.code is code
        # A refused announcement changes nothing.
        assert head_size(machine) == 3

    def test_another_signer(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.opened())
        body = appliance.body(appliance.model(), signer=SigningKey(os.urandom(32)))
        with pytest.raises(SignatureError, match="model key: the signature is not by"):
            machine.handle(appliance.announcement(3, model=body))

    def test_a_key_for_another_recipient(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.opened())
        appliance.silo_keys[SILO] = SealingKey(os.urandom(SEALING_SEED_BYTES)).public
        with pytest.raises(RefusedError, match="wrong-model: expected model key for recipient_key"):
            machine.handle(appliance.announcement(3))

    def test_a_key_that_crossed_a_renewal_still_opens(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        before = appliance.silo_keys[SILO]
        appliance.enrol(machine)
        appliance.append(appliance.opened())
        appliance.silo_keys[SILO] = before
        assert isinstance(machine.handle(appliance.announcement(3)), Train)

    def test_a_key_of_the_boot_before_does_not(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        before = appliance.silo_keys[SILO]
        appliance.reboot()
        appliance.enrol(machine)
        appliance.append(appliance.opened())
        appliance.silo_keys[SILO] = before
        with pytest.raises(RefusedError, match="recipient_key"):
            machine.handle(appliance.announcement(3))


class TestOutcome:
    def test_a_published_update_is_committed(
        self, appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        assert control(machine, appliance) == 0
        outcome = publish(appliance, update)
        appliance.append(appliance.opened(2))
        step = machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(2, 1)))
        assert isinstance(step, Train)
        assert step.outcome is not None
        assert step.outcome.used
        for seen in (machine, silo_machine(appliance.agreement, store)):
            assert control(seen, appliance) == 1
            assert seen.state.parent == update.upload_id
            assert seen.state.pending is None
        assert machine.state.receipts()[-1].endswith("-round.published")

    @pytest.mark.parametrize("how", ["abandoned", "without it"])
    def test_an_update_that_was_not_used_is_rolled_back(
        self, appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore, how: str
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        outcome = abandon(appliance, update) if how == "abandoned" else publish(appliance, update, silo="silo-1")
        appliance.append(appliance.opened(1, 2))
        step = machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(1, 2)))
        assert isinstance(step, Train)
        assert step.outcome is not None
        assert (step.outcome.used, step.outcome.foreign) == (False, False)
        for seen in (machine, silo_machine(appliance.agreement, store)):
            assert control(seen, appliance) == 0
            assert seen.state.parent is None
        # Its files are gone, c_i⁺ among them.
        assert not [name for name in store.list("") if "/updates/" in name or "/controls/" in name]

    @pytest.mark.parametrize("change", ["upload_id", "update"])
    def test_another_update_in_its_name_is_not_its_own(
        self, appliance: FakeAppliance, machine: SiloMachine, change: str
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        member = CohortMember(silo=SILO, upload_id=update.upload_id, update=update.digest, weight=1.0)
        other = {"upload_id": bytes(16), "update": bytes(32)}[change]
        outcome = publish(appliance, update, cohort=(replace(member, **{change: other}),))
        appliance.append(appliance.opened(2))
        step = machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(2, 1)))
        assert isinstance(step, Train)
        assert step.outcome is not None
        assert (step.outcome.used, step.outcome.foreign) == (False, True)
        assert control(machine, appliance) == 0

    def test_8_without_it_nothing_is_trained(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        abandon(appliance, update)
        appliance.append(appliance.opened(1, 2))
        message = appliance.announcement(head_size(machine), moment=(1, 2))
        # It asks once, naming the update, for the two may have crossed.
        step = machine.handle(message)
        assert isinstance(step, Send)
        assert Join.parse(step.message).pending == update.announced()
        with pytest.raises(
            MissingOutcomeError, match="expected what became of this silo's update for attempt 1 of round 1"
        ):
            machine.handle(message)
        assert machine.state.pending == update

    def test_8_the_outcome_of_another_attempt(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        outcome = publish(appliance, update, attempt=2)
        appliance.append(appliance.opened(2))
        with pytest.raises(RefusedError, match="wrong-round: expected how attempt 1 of round 1 ended"):
            machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(2, 1)))

    def test_8_an_entry_that_is_no_outcome(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        submit(appliance, machine, announce(appliance, machine))
        appliance.append(appliance.opened(2))
        message = appliance.announcement(head_size(machine), outcome=appliance.log.size - 1, moment=(2, 1))
        with pytest.raises(RefusedError, match=r"found a round\.opened entry of another moment"):
            machine.handle(message)

    def test_8_an_outcome_that_is_not_in_the_log(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        index = abandon(appliance, update)
        appliance.append(appliance.opened(2))
        forged = replace(
            appliance.logged(index),
            entry=RoundAbandoned(time=NOW, round=1, attempt=1, reason="other", silo=None).encode(),
        )
        message = appliance.announcement(head_size(machine), moment=(2, 1))
        with pytest.raises(ProofError):
            machine.handle(replace(Announcement.parse(message), outcome=forged).encode())
        assert machine.state.pending == update

    def test_an_open_attempt_is_resumed_with_the_stored_bytes(
        self, appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        again = silo_machine(appliance.agreement, store)
        appliance.enrol(again)
        index = appliance.log.size - 2
        message = appliance.announcement(head_size(again), index=index)
        assert again.handle(message) == Resume(update=update)
        assert again.state.pending == update

    def test_after_a_restart_of_the_appliance_nothing_is_resumed(
        self, appliance: FakeAppliance, machine: SiloMachine
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        appliance.reboot()
        appliance.enrol(machine)
        outcome = abandon(appliance, update)
        appliance.append(appliance.opened(1, 2))
        step = machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(1, 2)))
        assert isinstance(step, Train)

    def test_a_reset_makes_the_control_zero_and_forgets_the_parent(
        self, appliance: FakeAppliance, machine: SiloMachine
    ) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        outcome = publish(appliance, update)
        appliance.append(appliance.opened(2))
        machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(2, 1)))
        assert control(machine, appliance) == 1
        step = announce(appliance, machine, 3, control_epoch=1)
        assert step.reset
        assert control(machine, appliance) == 0
        assert machine.state.parent is None

    def test_a_reset_together_with_a_published_update(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        outcome = publish(appliance, update)
        appliance.append(appliance.opened(2, control_epoch=1))
        machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(2, 1)))
        assert control(machine, appliance) == 0
        assert machine.state.parent is None


class TestEnd:
    def test_the_end_is_believed_whatever_boot_wrote_it(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.closed(boot_id=bytes(32)))
        step = machine.handle(appliance.announcement(3, moment=(40, 0)))
        assert isinstance(step, Finish)
        assert step.entry.model == appliance.agreement.model.initial

    def test_the_end_tells_the_last_outcome(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        update = submit(appliance, machine, announce(appliance, machine))
        outcome = publish(appliance, update)
        appliance.append(appliance.closed())
        step = machine.handle(appliance.announcement(head_size(machine), outcome=outcome, moment=(40, 0)))
        assert isinstance(step, Finish)
        assert step.outcome is not None
        assert step.outcome.used
        assert control(machine, appliance) == 1

    def test_too_early(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.closed(rounds=3))
        with pytest.raises(RefusedError, match="expected rounds 40, as agreed, found 3"):
            machine.handle(appliance.announcement(3, moment=(3, 0)))

    def test_without_the_quorum(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.append(appliance.closed())
        with pytest.raises(QuorumError):
            machine.handle(appliance.announcement(3, cosigners=ALL[:2], moment=(40, 0)))


def test_an_update_is_not_held_for_an_attempt_that_is_over(appliance: FakeAppliance, machine: SiloMachine) -> None:
    first = announce(appliance, machine)
    announce(appliance, machine, 1, 2)
    c_i = read_control(machine.state, appliance.layout)
    update = seal_update(
        parameters(c_i),
        c_i,
        UpdateMetadata(steps=1, step_size_sum=0.1, metrics={}),
        opened=first.entry,
        state=machine.state,
        form=body_format(appliance.agreement, appliance.layout),
    )
    assert not machine.hold(update)
    assert machine.state.pending is None


def test_a_newcomer_believes_a_round_that_is_older_than_its_admission(appliance: FakeAppliance) -> None:
    """It has seen no head yet: whoever joins in the middle of a round trains in it."""
    appliance.append(appliance.opened())
    cosigned = appliance.checkpoint(cosigners=ALL).encode().decode()
    opened = appliance.logged(appliance.log.size - 1)
    machine = silo_machine(appliance.agreement, MemoryStore())
    appliance.enrol(machine)
    assert Join.parse(machine.join()).head == 0
    message = Announcement.parse(appliance.announcement(0, index=2))
    step = machine.handle(replace(message, checkpoint=cosigned, opened=opened).encode())
    assert isinstance(step, Train)
    assert head_size(machine) == 3


def test_a_checkpoint_that_was_overtaken_on_the_way_is_no_fork(appliance: FakeAppliance, machine: SiloMachine) -> None:
    appliance.append(appliance.opened())
    message = appliance.announcement(3)
    machine.handle(appliance.cosign_request(3))
    appliance.append(appliance.opened(1, 2))
    machine.handle(appliance.cosign_request(4))
    assert isinstance(machine.handle(message), Train)
    assert head_size(machine) == 5


def test_the_initial_model_is_asked_for_by_the_agreed_digest(appliance: FakeAppliance, machine: SiloMachine) -> None:
    digest = appliance.agreement.model.initial
    assert machine.handle(WantInitial(digest=digest).encode()) == SendInitial(digest=digest)
    with pytest.raises(RefusedError, match="wrong-model: expected a request for the agreed initial model"):
        machine.handle(WantInitial(digest=bytes(32)).encode())


def lost(appliance: FakeAppliance, entry: Entry) -> LostModel:
    index = appliance.append(entry)
    logged = LoggedEntry(index=index, entry=entry.encode(), hashes=appliance.log.inclusion(index))
    return LostModel(recovered=logged, checkpoint=appliance.log.checkpoint.decode())


def recovered(appliance: FakeAppliance, model: bytes) -> LogRecovered:
    return LogRecovered(
        time=NOW,
        agreement=appliance.agreement.digest,
        boot_id=appliance.boot_id,
        keys=appliance.keys,
        evidence=bytes(32),
        previous=appliance.keys.log,
        size=appliance.log.size,
        root=bytes(32),
        model=model,
        grants=bytes(32),
        state=bytes(32),
    )


class TestALostModel:
    MODEL = bytes.fromhex("ab" * 32)

    def test_is_handed_out_where_the_log_names_it(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        wanted = WantInitial(digest=self.MODEL, lost=lost(appliance, recovered(appliance, self.MODEL)))
        assert machine.handle(wanted.encode()) == SendInitial(digest=self.MODEL)

    def test_another_than_the_log_names_is_not(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        wanted = WantInitial(digest=bytes(32), lost=lost(appliance, recovered(appliance, self.MODEL)))
        with pytest.raises(RefusedError, match=f"or for sha256:{self.MODEL.hex()}, which the log says is lost"):
            machine.handle(wanted.encode())

    def test_another_entry_names_none(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        wanted = WantInitial(digest=self.MODEL, lost=lost(appliance, appliance.opened()))
        with pytest.raises(RefusedError, match="wrong-model"):
            machine.handle(wanted.encode())

    def test_an_entry_that_is_not_in_the_log(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        shown = lost(appliance, recovered(appliance, bytes(32)))
        forged = replace(shown.recovered, entry=recovered(appliance, self.MODEL).encode())
        with pytest.raises(ProofError):
            machine.handle(WantInitial(digest=self.MODEL, lost=replace(shown, recovered=forged)).encode())

    def test_a_log_that_nobody_vouches_for(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        other = FakeAppliance(appliance.agreement, appliance.layout)
        wanted = WantInitial(digest=self.MODEL, lost=lost(other, recovered(other, self.MODEL)))
        with pytest.raises(SignatureError):
            machine.handle(wanted.encode())
