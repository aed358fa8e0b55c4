"""Further witnesses beside the silos, in memory: asked for every release, waited for where the agreement demands it."""

from collections.abc import Callable

import pytest
from lost_key import come_back, lose
from memory_federation import MemoryFederation, MemorySilo, signing_key

from audit.entries import LogGenesis, RoundPublished, parse_entry
from audit.log import LogReader
from audit.log_files import LogFiles
from audit.log_key import LogKeyError, appraised_log_key
from audit.note import Checkpoint, VerifierKey
from audit.report import AuditVerdict
from audit.resources import LogDamagedError
from audit.store import MemoryStore
from audit.verify import verify
from audit.witnessing.answer import Answer, Conflict, WitnessRefusedError, read_answer
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import WitnessState
from audit.witnessing.witness import Witness
from protocol.errors import MalformedError, RefusalCode, RefusedError
from protocol.session import Cosigned, CosignRequest, Declined, Join

ORIGIN = "simulated.strongroom.example/digits"


class FurtherWitness:
    """A real witness, and a courier in a function: `away` gives no answer, `answer` another one."""

    def __init__(self, federation: "WitnessedFederation", name: str) -> None:
        self.federation = federation
        self.name = name
        self.key = VerifierKey.of_cosigner(f"witness.example/{name}", signing_key(name).public)
        self.store = MemoryStore()
        self.state = WitnessState.create(self.store, self.key)
        self.events: list[str] = []
        self.asked: list[CosignRequest] = []
        self.away = False
        self.conflicts = 0
        self.answer: Callable[[Answer], Answer] = lambda answer: answer
        self.witness = Witness(
            key=signing_key(name), state=self.state, clock=lambda: federation.now, event=self.events.append
        )

    def know(self) -> None:
        self.state.add(appraised_log_key(LogFiles(self.federation.store), self.federation.agreement))

    def join(self, head: int = 0) -> None:
        self.federation.enclave.witnessed(self.name, Join(head=head, pending=None).encode())

    def carry(self, message: bytes) -> None:
        request = CosignRequest.parse(message)
        self.asked.append(request)
        if self.away:
            return
        checkpoint = Checkpoint.parse(request.checkpoint.encode())
        body = AddCheckpoint(
            old_size=request.consistency.size, proof=request.consistency.hashes, checkpoint=checkpoint
        ).encode()
        found = read_answer(self.answer(self.witness.add_checkpoint(body)), self.key)
        if isinstance(found, Conflict):
            self.conflicts += 1
            if found.size != request.consistency.size:
                self.join(found.size)
        else:
            said = Cosigned(size=checkpoint.size, line=found.encode())
            self.federation.enclave.witnessed(self.name, said.encode())


class WitnessedFederation(MemoryFederation):
    """A federation of two rounds whose agreement names witnesses."""

    def __init__(self, *names: str, required: int) -> None:
        keys = {name: VerifierKey.of_cosigner(f"witness.example/{name}", signing_key(name).public) for name in names}
        tables = "".join(f'\n[[log.witness]]\nname = "{name}"\nkey = "{key}"\n' for name, key in keys.items())
        super().__init__(
            replace={"rounds = 40": "rounds = 2", "faulty = 1\n": f"faulty = 1\nwitnesses = {required}\n{tables}"}
        )
        self.witnesses = {name: FurtherWitness(self, name) for name in names}
        for witness in self.witnesses.values():
            witness.know()
            witness.join()

    def run(self, *, until: Callable[[], bool] | None = None, deadline: bool = True) -> None:
        """Both, in turn, until neither has anything to say."""
        while not (until and until()):
            super().run(until=until, deadline=deadline)
            if not self.to_witnesses:
                return
            name, message = self.to_witnesses.popleft()
            if name in self.witnesses:
                self.witnesses[name].carry(message)

    def published(self) -> int:
        return sum(isinstance(parse_entry(data), RoundPublished) for _, data in self.history())

    def lines(self, size: int | None = None) -> list[str]:
        """The names of those who signed the newest checkpoint, or that of a size."""
        reader = LogReader(self.store)
        checkpoint = Checkpoint.parse(
            reader.checkpoint if size is None else self.store.read(f"log/checkpoints/{size}.note")
        )
        return [signature.name for signature in checkpoint.note.signatures]

    def cosigned(self, name: str) -> list[int]:
        """The sizes whose stored checkpoints a witness signed."""
        sizes = [int(note.split("/")[-1].removesuffix(".note")) for note in self.store.list("log/checkpoints/")]
        return [size for size in sorted(sizes) if f"witness.example/{name}" in self.lines(size)]

    def audit(self) -> AuditVerdict:
        return verify(LogFiles(self.store), self.agreement).verdict


def silos_of(federation: MemoryFederation) -> list[MemorySilo]:
    return list(federation.silos.values())


def test_a_federation_with_a_witness_ends_and_its_releases_carry_the_line() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    federation.run()
    assert all(silo.finished for silo in silos_of(federation))
    assert federation.published() == 2
    assert len(federation.cosigned("w1")) == 3  # Two attempts and the end.
    report = verify(LogFiles(federation.store), federation.agreement)
    assert report.verdict is AuditVerdict.PASS
    assert report.newest is not None
    assert [(vote.owner, vote.name) for vote in report.newest.witnesses] == [("w1", "witness.example/w1")]
    assert report.to_json()["newest"]["witnesses"][0]["witness"] == "w1"  # type: ignore[index,call-overload]
    # A witness is asked to cosign, and told nothing that a silo is.
    assert all(isinstance(request, CosignRequest) for request in federation.witnesses["w1"].asked)


def test_without_a_demanded_witness_nothing_is_released_and_the_reason_is_said() -> None:
    federation = WitnessedFederation("w1", "w2", required=1)
    for witness in federation.witnesses.values():
        witness.away = True
    federation.enrol_all()
    federation.run(deadline=False)
    assert federation.kinds()[-1] == "round.opened"
    assert not any(silo.models for silo in silos_of(federation))
    waits = "witnesses (0 of 1; not yet: w1, w2)"
    assert federation.enclave.describe().waiting_for == (waits,)
    assert any(event.startswith("release-waits size=") and event.endswith(waits) for event in federation.events)
    assert all("witness" not in name for name in federation.lines())
    # One of them comes back, and the round goes on where it stood.
    federation.witnesses["w2"].away = False
    federation.witnesses["w2"].join()
    federation.run()
    assert federation.published() == 2
    assert federation.enclave.describe().waiting_for == ()
    assert federation.cosigned("w1") == []
    assert federation.audit() is AuditVerdict.PASS


def test_a_witness_that_is_not_demanded_costs_nothing_and_its_late_line_is_kept() -> None:
    federation = WitnessedFederation("w1", required=0)
    witness = federation.witnesses["w1"]
    federation.enrol_all()
    witness.away = True
    federation.run()
    assert all(silo.finished for silo in silos_of(federation))
    assert federation.cosigned("w1") == []
    witness.away = False
    witness.join()
    federation.run()
    assert federation.cosigned("w1") == [federation.enclave.describe().log_size]
    assert federation.audit() is AuditVerdict.PASS


def test_a_witness_that_knows_more_than_the_log_is_named_and_counts_no_more() -> None:
    federation = WitnessedFederation("w1", required=0)
    with pytest.raises(RefusedError) as caught:
        federation.witnesses["w1"].join(head=1000)
    assert caught.value.refusal.code is RefusalCode.LOG_ROLLED_BACK
    assert "witness w1, which knows 1000" in str(caught.value)
    assert "log-rolled-back witness=w1 head=1000 log-size=2" in federation.events
    federation.enrol_all()
    federation.run()
    assert federation.witnesses["w1"].asked == []
    assert federation.published() == 2


def test_a_restarted_enclave_is_cosigned_from_where_the_witness_stood() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    federation.run(until=lambda: federation.published() == 1)
    known = federation.witnesses["w1"].state.log(ORIGIN)
    assert known is not None
    federation.boot()
    for silo in list(federation.silos):
        federation.enrol(federation.silo(silo))
    # The courier has forgotten as well: it learns the size from the witness's 409.
    federation.witnesses["w1"].join(0)
    federation.run()
    assert federation.published() == 2
    assert federation.audit() is AuditVerdict.PASS
    asked = [request.consistency.size for request in federation.witnesses["w1"].asked]
    assert known.head.size in asked


def test_a_rolled_back_enclave_gets_no_cosignature_from_a_witness() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    old = MemoryStore()
    for name in federation.store.list(""):
        old.write(name, federation.store.read(name))
    federation.run()
    # The store is set back, and every silo has forgotten: only the witness remembers.
    federation.silo_stores = {name: MemoryStore() for name in federation.silo_stores}
    federation.store = old
    federation.boot()
    for silo in list(federation.silos):
        federation.enrol(federation.silo(silo))
    federation.witnesses["w1"].join(0)
    before = federation.cosigned("w1")
    with pytest.raises(RefusedError, match="log-rolled-back"):
        federation.run(deadline=False)
    assert federation.cosigned("w1") == before
    assert any(event.startswith("log-rolled-back witness=w1") for event in federation.events)
    assert not any(silo.models for silo in silos_of(federation))


@pytest.mark.parametrize(
    "lie",
    [
        lambda answer: Answer(status=200, content_type="", body=answer.body.replace(b"w1 ", b"w2 ")),
        lambda answer: Answer(status=200, content_type="", body=b"\x00" * 100),
        lambda answer: Answer(status=409, content_type="text/html", body=b"<html>"),
    ],
)
def test_nonsense_from_a_witness_is_no_vote(lie: Callable[[Answer], Answer]) -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.witnesses["w1"].answer = lie
    federation.enrol_all()
    with pytest.raises(MalformedError):
        federation.run(deadline=False)
    assert federation.published() == 0


def test_a_line_by_another_key_or_for_another_checkpoint_is_no_vote() -> None:
    federation = WitnessedFederation("w1", required=1)
    witness = federation.witnesses["w1"]
    witness.away = True
    federation.enrol_all()
    federation.run(deadline=False)
    checkpoint = Checkpoint.parse(LogReader(federation.store).checkpoint)
    genesis = Checkpoint.parse(federation.store.read("log/checkpoints/2.note"))
    for line in (
        checkpoint.cosign("witness.example/w1", signing_key("mallory"), time=1),
        checkpoint.cosign(f"{ORIGIN}/silo-0", signing_key("silo-0"), time=1),
        genesis.cosign("witness.example/w1", signing_key("w1"), time=1),
    ):
        said = Cosigned(size=checkpoint.size, line=line.encode())
        with pytest.raises(RefusedError, match="identity-signature"):
            federation.enclave.witnessed("w1", said.encode())
    assert federation.enclave.describe().waiting_for


def test_a_silo_is_no_witness_and_a_witness_no_silo() -> None:
    federation = WitnessedFederation("w1", required=0)
    federation.enrol_all()
    join = Join(head=0, pending=None).encode()
    with pytest.raises(RefusedError, match="unknown-witness"):
        federation.enclave.witnessed("silo-0", join)
    with pytest.raises(RefusedError):
        federation.enclave.receive("w1", join)
    declined = Declined(size=3, code="log-forked", reason="another tree")
    federation.enclave.witnessed("w1", declined.encode())
    assert "cosignature-declined witness=w1 size=3 code=log-forked" in federation.events


def test_silos_believe_no_announcement_without_the_demanded_witness() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    deliver = federation.deliver

    def stripped(name: str, message: bytes) -> None:
        if b'"announcement"' in message:
            start = message.index("— witness.example/w1".encode())
            message = message[:start] + message[message.index(b"\\n", start) + 2 :]
        deliver(name, message)

    federation.deliver = stripped  # type: ignore[method-assign]
    federation.run(deadline=False)
    assert not any(silo.models for silo in silos_of(federation))
    said = {str(error) for silo in silos_of(federation) for error in silo.errors}
    assert len(said) == 1
    assert "found owner-0, owner-1, owner-2, owner-3; missing: witness w1" in said.pop()


def test_the_audit_convicts_a_release_without_the_demanded_witness() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    federation.run()
    for name in federation.store.list("log/checkpoint"):
        note = Checkpoint.parse(federation.store.read(name))
        kept = [line for line in note.note.signatures if line.name != "witness.example/w1"]
        text = note.note.text + b"\n" + "".join(line.encode() for line in kept).encode()
        federation.store.write(name, text)
    report = verify(LogFiles(federation.store), federation.agreement)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert "3 owners and 1 of 1 witnesses" in report.divergence.problem
    assert "missing: witness w1" in report.divergence.problem


def test_a_fork_gets_no_cosignature_and_the_witness_keeps_both_notes() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    old = MemoryStore()
    for name in federation.store.list(""):
        old.write(name, federation.store.read(name))
    federation.run(until=lambda: len(federation.cosigned("w1")) == 1)
    witness = federation.witnesses["w1"]
    known = witness.state.log(ORIGIN)
    assert known is not None
    # A second instance on a copy from before, which grows beyond what the witness knows.
    federation.silo_stores = {name: MemoryStore() for name in federation.silo_stores}
    federation.store = old
    federation.boot()
    for silo in list(federation.silos):
        federation.enrol(federation.silo(silo))
    witness.join(0)
    with pytest.raises(WitnessRefusedError, match="found status 422"):
        federation.run(deadline=False)
    assert federation.published() == 0
    kept = {Checkpoint.parse(witness.store.read(name)).size for name in witness.store.list("evidence/")}
    assert kept == {known.head.size, federation.enclave.describe().log_size}
    assert len(witness.events) == 1


def test_the_key_that_a_witness_is_given_is_the_one_that_evidence_vouches_for() -> None:
    federation = WitnessedFederation("w1", required=0)
    key = appraised_log_key(LogFiles(federation.store), federation.agreement)
    genesis = parse_entry(next(LogReader(federation.store).entries()))
    assert isinstance(genesis, LogGenesis)
    assert (key.name, key.public) == (ORIGIN, genesis.keys.log)
    other = WitnessedFederation("w2", required=0).agreement
    with pytest.raises(RefusedError, match="agreement-mismatch"):
        appraised_log_key(LogFiles(federation.store), other)
    (evidence,) = [name for name in federation.store.list("log/objects/") if genesis.evidence.hex() in name]
    federation.store.delete(evidence)
    with pytest.raises(LogDamagedError, match="expected an object, found none"):
        appraised_log_key(LogFiles(federation.store), federation.agreement)
    with pytest.raises(LogKeyError, match="expected a log's leaf 0"):
        appraised_log_key(LogFiles(MemoryStore()), federation.agreement)


def test_a_witness_that_came_while_the_log_was_recovered_is_asked_afterwards() -> None:
    federation = WitnessedFederation("w1", required=1)
    federation.enrol_all()
    federation.run(until=lambda: federation.published() == 1)
    lose(federation.store)
    federation.recover()
    federation.witnesses["w1"].join(0)
    with pytest.raises(RefusedError):
        federation.enclave.witnessed("w9", Join(head=0, pending=None).encode())
    assert federation.enclave.describe().waiting_for == ()
    federation.authorise("silo-0", "silo-1", "silo-2")
    come_back(federation)
    federation.witnesses["w1"].away = True
    asked = len(federation.witnesses["w1"].asked)
    federation.run(deadline=False)
    assert len(federation.witnesses["w1"].asked) > asked
    assert federation.enclave.describe().waiting_for == ("witnesses (0 of 1; not yet: w1)",)
