"""What a silo checks before it tells an appliance anything, and before it believes that it was admitted."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from memory_federation import signing_key
from silo_appliance import ALL, NOW, SILO, Clock, FakeAppliance, example, silo_machine

from audit.entries import SiloRefused
from audit.merkle import ProofError
from audit.note import Checkpoint
from audit.store import MemoryStore
from protocol.enrolment import ENROL_LABEL, HELLO_LABEL, Hello, Welcome
from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.fields import format_digest
from protocol.keys import SigningKey
from protocol.signed import open_message, unverified_body
from silo_client.machine import SiloMachine
from silo_client.witness import LogBrokenError


@pytest.fixture
def appliance() -> FakeAppliance:
    return FakeAppliance(*example())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def machine(appliance: FakeAppliance, store: MemoryStore) -> SiloMachine:
    return silo_machine(appliance.agreement, store)


def refusal(error: pytest.ExceptionInfo[RefusedError]) -> RefusalCode:
    return error.value.refusal.code


def test_a_good_appliance_is_believed(appliance: FakeAppliance, machine: SiloMachine) -> None:
    appliance.enrol(machine)
    assert machine.enrolled.boot_id == appliance.boot_id
    assert machine.state.log_key == appliance.log_key.public
    # The head is what was announced or cosigned; a receipt alone makes none.
    assert machine.state.head is None
    assert machine.state.receipts() == ["00000002-silo.admitted"]
    assert machine.enrolled.credential.renew_at == NOW + 2400


def test_hello_is_signed_by_the_identity_key(appliance: FakeAppliance, machine: SiloMachine) -> None:
    body = open_message(signing_key(SILO).public, HELLO_LABEL, machine.hello(), "hello")
    hello = Hello.parse(body)
    assert (hello.silo, hello.agreement) == (SILO, appliance.agreement.digest)
    assert Hello.parse(unverified_body(machine.hello())).nonce != hello.nonce


def test_the_request_is_sealed_to_the_appraised_key_and_carries_evidence_over_its_challenge(
    appliance: FakeAppliance, machine: SiloMachine
) -> None:
    welcome = appliance.welcome(machine.hello())
    sealed = machine.welcome(welcome)
    signed, enrol = appliance.open(sealed)
    open_message(signing_key(SILO).public, ENROL_LABEL, signed, "enrol")
    assert enrol.challenge == Welcome.parse(unverified_body(welcome)).challenge
    assert enrol.appliance == appliance.signing.public.raw
    assert enrol.evidence is not None
    assert enrol.keys.sealing not in sealed


def test_a_silo_without_a_tee_sends_no_evidence(appliance: FakeAppliance, store: MemoryStore) -> None:
    from silo_client.state import SiloState

    machine = SiloMachine(
        agreement=appliance.agreement,
        silo=SILO,
        identity=signing_key(SILO),
        platform=None,
        state=SiloState.open(store, agreement=appliance.agreement.digest, silo=SILO),
        clock=Clock(),
        random=os.urandom,
    )
    _, enrol = appliance.open(machine.welcome(appliance.welcome(machine.hello())))
    assert enrol.evidence is None


class TestWelcome:
    def test_another_agreement_is_refused_with_both_digests(self, machine: SiloMachine) -> None:
        other = FakeAppliance(*example(**{"maximum_norm = 100.0": "maximum_norm = 100.1"}))
        with pytest.raises(RefusedError) as error:
            machine.welcome(other.welcome(machine.hello()))
        assert refusal(error) is RefusalCode.AGREEMENT_MISMATCH
        assert format_digest(machine.agreement.digest) in str(error.value)
        assert format_digest(other.agreement.digest) in str(error.value)

    def test_another_origin(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        message = appliance.welcome(machine.hello(), origin="simulated.elsewhere.example/log")
        with pytest.raises(RefusedError, match=r"other-log: .*found simulated\.elsewhere\.example/log"):
            machine.welcome(message)

    def test_another_signature(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        message = appliance.welcome(machine.hello(), signer=SigningKey(os.urandom(32)))
        with pytest.raises(SignatureError, match="welcome: the signature is not by ed25519:"):
            machine.welcome(message)

    def test_an_answer_to_another_nonce(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        message = appliance.welcome(machine.hello())
        machine.hello()
        with pytest.raises(RefusedError, match="stale-nonce: expected an answer to this silo's nonce"):
            machine.welcome(message)

    def test_evidence_over_another_nonce(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        first = Welcome.parse(unverified_body(appliance.welcome(machine.hello())))
        message = appliance.welcome(machine.hello(), evidence=first.evidence)
        with pytest.raises(RefusedError, match=r"evidence-refused: .*report_data"):
            machine.welcome(message)

    @pytest.mark.parametrize("role", ["signing", "log", "sealing", "ca"])
    def test_a_key_that_the_evidence_does_not_vouch_for(
        self, appliance: FakeAppliance, machine: SiloMachine, role: str
    ) -> None:
        honest = Welcome.parse(unverified_body(appliance.welcome(machine.hello())))
        stranger = SigningKey(os.urandom(32))
        value = stranger.public.raw if role in ("signing", "log") else getattr(honest.keys, role)[::-1]
        keys = replace(honest.keys, **{role: value})
        hello = machine.hello()
        nonce = Hello.parse(unverified_body(hello)).nonce
        evidence = appliance.evidence(honest, nonce)
        message = appliance.welcome(hello, keys=keys, evidence=evidence, signer=stranger if role == "signing" else None)
        with pytest.raises(RefusedError, match="evidence-refused"):
            machine.welcome(message)

    def test_another_measurement(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        hello = machine.hello()
        nonce = Hello.parse(unverified_body(hello)).nonce
        honest = Welcome.parse(unverified_body(appliance.welcome(hello)))
        evidence = appliance.evidence(honest, nonce, measurement=bytes(48))
        with pytest.raises(RefusedError, match=r"evidence-refused: .*measurement"):
            machine.welcome(appliance.welcome(hello, evidence=evidence))

    def test_evidence_that_is_none(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        with pytest.raises(RefusedError, match="evidence-malformed"):
            machine.welcome(appliance.welcome(machine.hello(), evidence=b"{}"))

    def test_a_second_genesis_under_the_same_agreement(
        self, appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore
    ) -> None:
        appliance.enrol(machine)
        machine.handle(appliance.cosign_request(0))
        second = FakeAppliance(appliance.agreement, appliance.layout)
        for again in (machine, silo_machine(appliance.agreement, store)):
            with pytest.raises(LogBrokenError, match=r"other-log: .*a second genesis under the same agreement"):
                again.welcome(second.welcome(again.hello()))
        kept = [name for name in store.list("") if "/evidence/" in name]
        assert {Path(name).name for name in kept} == {"ours.note", "theirs.note"}
        theirs = next(name for name in kept if name.endswith("theirs.note"))
        Checkpoint.parse(store.read(theirs))

    def test_a_log_that_was_rolled_back(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.enrol(machine)
        appliance.enrol(machine)
        appliance.append(appliance.opened())
        machine.handle(appliance.cosign_request(0))
        older = appliance.log.checkpoint_at(4).encode().decode()
        with pytest.raises(LogBrokenError, match="log-rolled-back: expected a log of at least the 5 entries"):
            machine.welcome(appliance.welcome(machine.hello(), checkpoint=older))

    def test_a_fork_at_the_head(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.enrol(machine)
        machine.handle(appliance.cosign_request(0))
        fork = FakeAppliance(appliance.agreement, appliance.layout, log_key=appliance.log_key)
        fork.append(fork.opened())
        with pytest.raises(LogBrokenError, match=r"log-forked: .*another tree of the same 3 entries"):
            machine.welcome(appliance.welcome(machine.hello(), checkpoint=fork.log.checkpoint.decode()))

    def test_a_checkpoint_by_another_key(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        other = FakeAppliance(appliance.agreement, appliance.layout)
        message = appliance.welcome(machine.hello(), checkpoint=other.log.checkpoint.decode())
        with pytest.raises(SignatureError, match="note: expected a signature by a known key"):
            machine.welcome(message)

    def test_bytes_that_are_no_welcome(self, machine: SiloMachine) -> None:
        machine.hello()
        for message in (b"", bytes(64), bytes(65), os.urandom(300)):
            with pytest.raises(MalformedError):
                machine.welcome(message)

    def test_a_refused_appliance_leaves_no_trace(self, machine: SiloMachine, store: MemoryStore) -> None:
        other = FakeAppliance(machine.agreement, example()[1])
        with pytest.raises(RefusedError):
            machine.welcome(other.welcome(machine.hello(), evidence=b"{}"))
        assert machine.state.log_key is None
        assert store.list("") == []


class TestAdmitted:
    def test_another_signature(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        sealed = machine.welcome(appliance.welcome(machine.hello()))
        with pytest.raises(SignatureError, match="admission: the signature is not by"):
            machine.admitted(appliance.admit(sealed, signer=SigningKey(os.urandom(32))))

    def test_another_boot(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        sealed = machine.welcome(appliance.welcome(machine.hello()))
        with pytest.raises(RefusedError, match="wrong-boot: expected an admission of silo-0 to boot"):
            machine.admitted(appliance.admit(sealed, boot_id=bytes(32)))

    def test_anothers_receipt(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        neighbour = silo_machine(appliance.agreement, MemoryStore(), name=ALL[1])
        appliance.enrol(neighbour)
        foreign = {"entry": appliance.log.entry(2), "receipt": appliance.log.receipt(2).encode().decode()}
        sealed = machine.welcome(appliance.welcome(machine.hello()))
        with pytest.raises(RefusedError, match=r"other-log: expected a silo.admitted entry for the request"):
            machine.admitted(appliance.admit(sealed, **foreign))

    def test_a_refusal_dressed_as_an_admission(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        index = appliance.append(
            SiloRefused(time=NOW, boot_id=appliance.boot_id, silo=SILO, code="malformed", request=bytes(32))
        )
        entry = {"entry": appliance.log.entry(index), "receipt": appliance.log.receipt(index).encode().decode()}
        sealed = machine.welcome(appliance.welcome(machine.hello()))
        with pytest.raises(RefusedError, match=r"found a silo.refused entry"):
            machine.admitted(appliance.admit(sealed, **entry))

    def test_an_entry_that_the_receipt_does_not_prove(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        sealed = machine.welcome(appliance.welcome(machine.hello()))
        with pytest.raises(ProofError):
            machine.admitted(appliance.admit(sealed, receipt=appliance.log.receipt(1).encode().decode()))

    def test_nothing_is_pinned_before_the_admission(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        sealed = machine.welcome(appliance.welcome(machine.hello()))
        assert machine.state.log_key is None
        machine.admitted(appliance.admit(sealed))
        assert machine.state.log_key == appliance.log_key.public

    def test_a_restarted_appliance_is_appraised_again(self, appliance: FakeAppliance, machine: SiloMachine) -> None:
        appliance.enrol(machine)
        before = machine.enrolled
        appliance.reboot()
        appliance.enrol(machine)
        assert machine.enrolled.boot_id == appliance.boot_id != before.boot_id
        assert machine.enrolled.sealing.public != before.sealing.public


def test_the_clock_is_never_behind_the_newest_cosignature(
    appliance: FakeAppliance, machine: SiloMachine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    appliance.enrol(machine)
    machine.handle(appliance.cosign_request(0))
    late = Clock()
    late.now = 1
    seen: list[int] = []
    monkeypatch.setattr("silo_client.enrolment.appraise_appliance", lambda *args: seen.append(args[-1]))
    appliance.enrol(silo_machine(appliance.agreement, store, clock=late))
    assert seen == [NOW]


def test_an_answer_that_nobody_asked_for(appliance: FakeAppliance, machine: SiloMachine) -> None:
    welcome = appliance.welcome(machine.hello())
    sealed = machine.welcome(welcome)
    machine.admitted(appliance.admit(sealed))
    with pytest.raises(ValueError, match="no enrolment has begun"):
        machine.welcome(welcome)
