"""A silo as a witness: one log, never a smaller head, never a fork; the head is durable before a cosignature leaves."""

from pathlib import Path

import pytest
from memory_federation import signing_key
from silo_appliance import NOW, SILO, Clock, FakeAppliance, example, head_size, silo_machine

from audit.agreed import cosigner_of, log_key_of
from audit.fraud import FraudProof
from audit.note import Checkpoint, NoteSignature
from audit.store import MemoryStore
from protocol.errors import MalformedError, RefusalCode, SignatureError
from protocol.session import Cosigned, Declined
from silo_client.machine import Decline, Send, SiloMachine
from silo_client.state import SiloState, StateError


@pytest.fixture
def appliance() -> FakeAppliance:
    return FakeAppliance(*example())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def machine(appliance: FakeAppliance, store: MemoryStore, clock: Clock) -> SiloMachine:
    machine = silo_machine(appliance.agreement, store, clock=clock)
    appliance.enrol(machine)
    machine.handle(appliance.cosign_request(0))
    return machine


def cosigned(machine: SiloMachine, message: bytes) -> Cosigned:
    step = machine.handle(message)
    assert isinstance(step, Send)
    return Cosigned.parse(step.message)


def declined(machine: SiloMachine, message: bytes) -> Decline:
    step = machine.handle(message)
    assert isinstance(step, Decline)
    said = Declined.parse(step.message)
    assert said.code == str(step.error.refusal.code)
    return step


def time_of(appliance: FakeAppliance, answer: Cosigned) -> int | None:
    key = cosigner_of(appliance.agreement, appliance.agreement.silo(SILO))
    assert key.public == signing_key(SILO).public.raw
    return key.verify(NoteSignature.parse(answer.line), appliance.log.checkpoint_at(answer.size).note.text)


def test_it_cosigns_what_extends_its_head(appliance: FakeAppliance, machine: SiloMachine) -> None:
    for _ in range(5):
        head = head_size(machine)
        appliance.append(appliance.opened(), appliance.opened())
        answer = cosigned(machine, appliance.cosign_request(head))
        assert answer.size == appliance.log.size == head_size(machine)
        assert time_of(appliance, answer) == NOW


def test_it_cosigns_its_own_head_again(appliance: FakeAppliance, machine: SiloMachine) -> None:
    first, second = (cosigned(machine, appliance.cosign_request(3)) for _ in range(2))
    assert first == second


def test_a_clock_that_goes_backwards_makes_no_earlier_cosignature(
    appliance: FakeAppliance, machine: SiloMachine, clock: Clock
) -> None:
    cosigned(machine, appliance.cosign_request(3))
    clock.now = NOW - 1000
    appliance.append(appliance.opened())
    assert time_of(appliance, cosigned(machine, appliance.cosign_request(3))) == NOW


def test_the_head_is_durable_before_the_cosignature_exists(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    appliance.append(appliance.opened())
    seen: list[int] = []

    def look(self: Checkpoint, *args: object, **kwargs: object) -> NoteSignature:
        state = SiloState.read_only(store, agreement=appliance.agreement.digest, silo=SILO)
        assert state.head is not None
        seen.append(state.head.size)
        return NoteSignature(name="x", key_id=bytes(4), payload=bytes(72))

    monkeypatch.setattr(Checkpoint, "cosign", look)
    machine.handle(appliance.cosign_request(3))
    assert seen == [4]


def test_no_cosignature_if_the_head_can_not_be_written(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    appliance.append(appliance.opened())
    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="No space left"):
        machine.handle(appliance.cosign_request(3))
    monkeypatch.undo()
    # What is on disk isn't known any more: this process cosigns nothing.
    with pytest.raises(StateError, match="could not be written before"):
        machine.handle(appliance.cosign_request(3))


def test_a_smaller_checkpoint_is_declined_even_if_it_was_cosigned_before(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    old = appliance.log.checkpoint.decode()
    cosigned(machine, appliance.cosign_request(3))
    appliance.append(appliance.opened())
    cosigned(machine, appliance.cosign_request(3))
    for again in (machine, silo_machine(appliance.agreement, store)):
        step = declined(again, appliance.cosign_request(3, checkpoint=old))
        assert step.error.refusal.code is RefusalCode.LOG_ROLLED_BACK
        assert "expected a log of at least the 4 entries that this silo has seen, found one of 3" in str(step.error)
    assert head_size(machine) == 4


@pytest.mark.parametrize("extra", [0, 1, 4])
def test_a_fork_is_declined_and_both_notes_are_kept(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore, extra: int
) -> None:
    cosigned(machine, appliance.cosign_request(3))
    fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
    for _ in range(1 + extra):
        fork.append(fork.opened())
    step = declined(machine, fork.cosign_request(3))
    assert step.error.refusal.code is RefusalCode.LOG_FORKED
    assert "(kept in " in str(step.error)
    kept = {Path(name).name: store.read(name) for name in store.list(step.error.evidence + "/")}
    fraud = FraudProof.parse_file(kept.pop("fork.fraud")).verify(appliance.agreement, log_key=appliance.log_key.public)
    assert fraud.sizes == (3, fork.log.size)
    assert "stop, and send fork.fraud to the other silos, who check it: strongroom audit verify-fraud (kept in " in str(
        step.error
    )
    notes = {name: Checkpoint.parse(data) for name, data in kept.items()}
    assert notes["theirs.note"].size == fork.log.size
    assert notes["ours.note"].size == 3
    for note in notes.values():
        # A third party can hold them against each other: both carry the log's own signature.
        note.verify(log_key_of(appliance.agreement, appliance.log_key.public))


def files_kept(store: MemoryStore) -> set[str]:
    return {Path(name).name for name in store.list("") if "/evidence/" in name}


def test_a_head_that_was_followed_convicts_one_of_the_same_size(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    """Though it is smaller than the head by now, and the head alone would say no more than "rolled back"."""
    cosigned(machine, appliance.cosign_request(3))
    appliance.append(appliance.opened())
    cosigned(machine, appliance.cosign_request(3))
    fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
    fork.append(fork.opened())
    step = declined(machine, fork.cosign_request(3))
    assert step.error.refusal.code is RefusalCode.LOG_FORKED
    assert files_kept(store) == {"ours.note", "theirs.note", "fork.fraud"}


def test_a_bad_proof_or_one_from_a_power_of_two_convicts_nobody_and_says_so(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    """From such a size a consistency proof names no root of its own: it takes the appliance's store to tell."""
    appliance.append(appliance.opened())
    cosigned(machine, appliance.cosign_request(3))
    assert head_size(machine) == 4
    fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
    fork.append(*[fork.opened()] * 5)
    bad = appliance.cosign_request(4, checkpoint=fork.log.checkpoint.decode())
    for message in (fork.cosign_request(4), bad):
        step = declined(machine, message)
        assert step.error.refusal.code is RefusalCode.LOG_FORKED
        assert "hold ours.note against its store: strongroom audit compare (kept in " in str(step.error)
        assert str(step.error).endswith("; the notes alone convict nobody)")
    assert files_kept(store) == {"ours.note", "theirs.note"}


def test_a_rollback_convicts_nobody_and_says_so(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    old = appliance.log.checkpoint.decode()
    appliance.append(appliance.opened())
    cosigned(machine, appliance.cosign_request(3))
    step = declined(machine, appliance.cosign_request(3, checkpoint=old))
    assert str(step.error).endswith("; an older head by itself convicts nobody)")
    assert files_kept(store) == {"ours.note", "theirs.note"}


def test_the_evidence_for_the_log_key_is_kept_at_the_first_enrolment(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    state = SiloState.read_only(store, agreement=appliance.agreement.digest, silo=SILO)
    voucher = state.voucher(appliance.log_key.public)
    assert voucher is not None
    assert voucher.appraise(appliance.agreement) == appliance.log_key.public
    appliance.reboot()
    appliance.enrol(machine)
    assert state.voucher(appliance.log_key.public) == voucher
    assert state.voucher(signing_key(SILO).public) is None


def test_without_that_evidence_the_notes_are_kept_and_convict_nobody_yet(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    cosigned(machine, appliance.cosign_request(3))
    [name] = [name for name in store.list("") if "/log-keys/" in name]
    store.write(name, b"{}")
    fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
    fork.append(fork.opened())
    step = declined(machine, fork.cosign_request(3))
    assert str(step.error).endswith("; the notes alone convict nobody)")
    assert files_kept(store) == {"ours.note", "theirs.note"}


def test_an_extension_without_its_proof_is_declined(appliance: FakeAppliance, machine: SiloMachine) -> None:
    appliance.append(appliance.opened(), appliance.opened())
    message = appliance.cosign_request(3, consistency=appliance.consistency(4))
    assert "expected a proof from size 3, found one from 4" in str(declined(machine, message).error)
    message = appliance.cosign_request(3, consistency=appliance.consistency(0))
    assert "expected a proof from size 3, found one from 0" in str(declined(machine, message).error)
    assert head_size(machine) == 3


def test_a_checkpoint_of_another_log_is_refused(appliance: FakeAppliance, machine: SiloMachine) -> None:
    other = FakeAppliance(appliance.agreement, appliance.layout)
    with pytest.raises(SignatureError, match="found none"):
        machine.handle(other.cosign_request(3))
    renamed = appliance.log.checkpoint.decode().replace("strongroom.example", "elsewhere.example")
    with pytest.raises(SignatureError, match="checkpoint: expected one of the log"):
        machine.handle(appliance.cosign_request(3, checkpoint=renamed))


def test_a_note_that_does_not_parse_is_refused(appliance: FakeAppliance, machine: SiloMachine) -> None:
    with pytest.raises(MalformedError):
        machine.handle(appliance.cosign_request(3, checkpoint="nothing\n"))


def test_a_silo_that_was_never_enrolled_cosigns_nothing(appliance: FakeAppliance) -> None:
    machine = silo_machine(appliance.agreement, MemoryStore())
    with pytest.raises(ValueError, match="no log is pinned yet"):
        machine.handle(appliance.cosign_request(0))


def test_evidence_of_a_broken_log_survives_and_so_does_the_head(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
) -> None:
    fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
    fork.append(fork.opened(), fork.opened())
    declined(machine, fork.cosign_request(3))
    again = silo_machine(appliance.agreement, store)
    assert again.state.head is not None
    assert again.state.head.root == appliance.log.root(3)
    assert [name for name in store.list("") if "/evidence/" in name]
