"""The courier between enclave and witness: what it carries, and what a witness that is no help can and can't do."""

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from appliance.gateway import witness_courier
from appliance.gateway.link import EnclaveAwayError
from appliance.gateway.witness_courier import Route, WitnessCourier
from appliance.gateway.witness_http import WitnessAwayError
from audit.log import LogWriter
from audit.note import VerifierKey
from audit.store import MemoryStore
from audit.witnessing.answer import Answer
from audit.witnessing.request import AddCheckpoint
from protocol.errors import RefusalCode
from protocol.keys import SigningKey
from protocol.session import Consistency, Cosigned, CosignRequest, Declined, FromSilo, Join, parse_from_silo
from protocol.wire import strongroom_pb2 as pb

SECONDS = 20.0
WITNESS = SigningKey(b"w" * 32)
KEY = VerifierKey.of_cosigner("witness.example/w1", WITNESS.public)
REFUSED = pb.Reply(refusal=pb.Refusal(code=RefusalCode.LOG_ROLLED_BACK, expected="e", found="f", remedy="r"))


class Scene:
    """A courier in its thread, between an enclave and a witness that a test plays."""

    def __init__(self) -> None:
        self.log = LogWriter.create(MemoryStore(), "simulated.example/log", SigningKey(b"l" * 32))
        for number in range(8):
            self.log.append([b"%d" % number])
        self.heard: queue.Queue[FromSilo] = queue.Queue()
        self.posted: queue.Queue[AddCheckpoint] = queue.Queue()
        self.events: queue.Queue[str] = queue.Queue()
        self.reply: Callable[[FromSilo], pb.Reply] = lambda message: pb.Reply(message=b"")
        self.answer: Callable[[AddCheckpoint], Answer] = self.cosign
        self.courier = WitnessCourier(
            route=Route(name="w1", key=KEY, post=self.post),
            link=self,  # type: ignore[arg-type]
            event=self.events.put,
        )
        self.thread = threading.Thread(target=self.courier.run, daemon=True)
        self.thread.start()

    def witnessed(self, witness: str, message: bytes) -> pb.Reply:
        assert witness == "w1"
        parsed = parse_from_silo(message)
        self.heard.put(parsed)
        return self.reply(parsed)

    def post(self, body: bytes) -> Answer:
        request = AddCheckpoint.parse(body)
        self.posted.put(request)
        return self.answer(request)

    def cosign(self, request: AddCheckpoint) -> Answer:
        return Answer.cosigned(request.checkpoint.cosign(KEY.name, WITNESS, time=1000))

    def ask(self, size: int, head: int) -> None:
        hashes = self.log.consistency(head, size) if 0 < head < size else ()
        checkpoint = self.log.checkpoint_at(size).encode().decode()
        proof = Consistency(size=head, hashes=hashes)
        self.courier.deliver(CosignRequest(checkpoint=checkpoint, consistency=proof).encode())

    def hears(self) -> FromSilo:
        return self.heard.get(timeout=SECONDS)

    def says(self) -> str:
        return self.events.get(timeout=SECONDS)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(witness_courier, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(witness_courier, "LONGEST_PAUSE_SECONDS", 0.05)
    made = Scene()
    yield made
    made.courier.close()
    made.thread.join(SECONDS)
    assert not made.thread.is_alive()


def test_it_joins_carries_and_brings_back_the_line(scene: Scene) -> None:
    scene.courier.enclave_up()
    assert scene.hears() == Join(head=0, pending=None)
    scene.ask(5, 0)
    said = scene.hears()
    assert isinstance(said, Cosigned)
    assert said.size == 5
    request = scene.posted.get_nowait()
    assert (request.old_size, request.proof, request.checkpoint.size) == (0, (), 5)
    scene.ask(8, 5)
    assert isinstance(scene.hears(), Cosigned)
    assert scene.posted.get_nowait().proof == scene.log.consistency(5, 8)
    assert scene.events.empty()


def test_a_conflict_names_the_size_from_which_it_asks_again(scene: Scene) -> None:
    scene.answer = lambda request: Answer.conflict(3) if request.old_size == 0 else scene.cosign(request)
    scene.courier.enclave_up()
    scene.hears()
    scene.ask(8, 0)
    assert scene.hears() == Join(head=3, pending=None)
    scene.ask(8, 3)
    assert isinstance(scene.hears(), Cosigned)
    # Another boot of the enclave is told so at once.
    scene.courier.enclave_down()
    scene.courier.enclave_up()
    assert scene.hears() == Join(head=8, pending=None)


def test_two_trees_of_one_size_are_declined_as_a_fork(scene: Scene) -> None:
    scene.answer = lambda request: Answer.conflict(5)
    scene.courier.enclave_up()
    scene.hears()
    scene.ask(5, 5)
    said = scene.hears()
    assert isinstance(said, Declined)
    assert (said.size, said.code) == (5, "log-forked")
    assert "another tree of 5 entries" in scene.says()


def test_conflicts_without_end_are_not_followed_without_end(scene: Scene) -> None:
    sizes = iter(range(1, 1000))
    scene.answer = lambda request: Answer.conflict(next(sizes))
    scene.courier.enclave_up()
    asked = 0
    while scene.events.empty():
        said = scene.hears()
        assert isinstance(said, Join)
        scene.ask(8, 0)
        asked += 1
        assert asked < 10
    assert "does not take it" in scene.says()


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        (Answer(status=503, content_type="", body=b"\x1b[2Jlater\n"), "found status 503"),
        (Answer(status=200, content_type="", body=b""), "signature lines"),
        (Answer(status=409, content_type="text/html", body=b"5\n"), "expected a size"),
        (Answer(status=422, content_type="", body=b"no"), "found status 422"),
    ],
)
def test_a_witness_that_is_no_help_is_asked_again_and_said_once(scene: Scene, answer: Answer, because: str) -> None:
    scene.answer = lambda request: answer
    scene.courier.enclave_up()
    scene.hears()
    scene.ask(5, 0)
    line = scene.says()
    assert line.startswith("no-cosignature witness=w1 because=")
    assert because in line
    assert line.isprintable()
    for _ in range(3):
        scene.posted.get(timeout=SECONDS)
    assert scene.events.empty()
    scene.answer = scene.cosign
    assert isinstance(scene.hears(), Cosigned)
    assert scene.says() == "cosigns-again witness=w1"


def test_a_witness_that_is_away_gets_the_newest_request_when_it_is_back(scene: Scene) -> None:
    def away(request: AddCheckpoint) -> Answer:
        raise WitnessAwayError("ConnectionRefusedError: nobody there")

    scene.answer = away
    scene.courier.enclave_up()
    scene.hears()
    scene.ask(5, 0)
    assert "nobody there" in scene.says()
    scene.ask(6, 0)
    scene.ask(7, 0)
    scene.answer = scene.cosign
    said = scene.hears()
    while isinstance(said, Cosigned) and said.size < 7:
        said = scene.hears()
    assert isinstance(said, Cosigned)


def test_an_answer_that_the_enclave_refuses_begins_all_anew(scene: Scene) -> None:
    scene.answer = lambda request: Answer.conflict(1000)
    scene.reply = lambda message: REFUSED if message == Join(head=1000, pending=None) else pb.Reply(message=b"")
    scene.courier.enclave_up()
    scene.hears()
    scene.ask(5, 0)
    assert scene.hears() == Join(head=1000, pending=None)
    assert "the enclave refuses its answer: log-rolled-back" in scene.says()
    assert scene.hears() == Join(head=0, pending=None)


def test_an_enclave_that_goes_meanwhile_is_joined_when_it_is_back(scene: Scene) -> None:
    def gone(message: FromSilo) -> pb.Reply:
        raise EnclaveAwayError

    scene.reply = gone
    scene.courier.enclave_up()
    scene.hears()
    scene.reply = lambda message: pb.Reply(message=b"")
    scene.courier.enclave_up()
    assert scene.hears() == Join(head=0, pending=None)
    scene.ask(5, 0)
    assert isinstance(scene.hears(), Cosigned)
