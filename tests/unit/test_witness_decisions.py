"""A further witness (C2SP tlog-witness): every status of the protocol, one history a log, the head before the line."""

import threading
from dataclasses import replace
from hashlib import sha256

import pytest

from audit.log import LogWriter
from audit.merkle import EMPTY_ROOT, TreeHead
from audit.note import Checkpoint, NoteSignature, VerifierKey
from audit.store import MemoryStore, StoreError
from audit.witnessing.answer import SIZE_TYPE, Answer, Conflict, WitnessRefusedError, read_answer
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import WitnessState, WitnessStateError
from audit.witnessing.witness import Witness
from protocol.errors import MalformedError
from protocol.keys import SigningKey

ORIGIN = "simulated.strongroom.example/digits"
NOW = 1_800_000_000
LOG_KEY = SigningKey(sha256(b"log").digest())
WITNESS_KEY = SigningKey(sha256(b"witness").digest())
KEY = VerifierKey.of_cosigner("witness.example/w1", WITNESS_KEY.public)


class Log:
    """A log of leaves that differ from another log's from `fork` on."""

    def __init__(self, fork: str = "", key: SigningKey = LOG_KEY, origin: str = ORIGIN) -> None:
        self.writer = LogWriter.create(MemoryStore(), origin, key)
        self.fork = fork

    def grow(self, size: int, common: int = 0) -> "Log":
        while self.writer.size < size:
            mark = "" if self.writer.size < common else self.fork
            self.writer.append([f"entry {self.writer.size}{mark}".encode()])
        return self

    def request(self, old: int, size: int, proof: tuple[bytes, ...] | None = None) -> bytes:
        hashes = self.writer.consistency(old, size) if proof is None and 0 < old < size else proof or ()
        return AddCheckpoint(old_size=old, proof=hashes, checkpoint=self.writer.checkpoint_at(size)).encode()


class Scene:
    """A witness that knows one log."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.events: list[str] = []
        self.now = NOW
        state = WitnessState.create(self.store, KEY)
        state.add(VerifierKey.of_log(ORIGIN, LOG_KEY.public))
        self.witness = self.process()

    def process(self) -> Witness:
        state = WitnessState.open(self.store, KEY)
        return Witness(key=WITNESS_KEY, state=state, clock=lambda: self.now, event=self.events.append)

    def post(self, body: bytes) -> Answer:
        return self.witness.add_checkpoint(body)

    @property
    def head(self) -> int:
        log = WitnessState.open(self.store, KEY).log(ORIGIN)
        return 0 if log is None else log.head.size

    @property
    def evidence(self) -> list[str]:
        return self.store.list("evidence/")


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def log() -> Log:
    return Log().grow(20)


def cosigned(answer: Answer, checkpoint: Checkpoint) -> int:
    """The time of a good cosignature."""
    assert (answer.status, answer.body[:3]) == (200, "—".encode())
    line = read_answer(answer, KEY)
    assert isinstance(line, NoteSignature)
    time = KEY.verify(line, checkpoint.note.text)
    assert time is not None
    return time


def test_it_cosigns_one_history_from_nothing(scene: Scene, log: Log) -> None:
    known = 0
    for size in (1, 2, 3, 7, 8, 20):
        answer = scene.post(log.request(known, size))
        assert cosigned(answer, log.writer.checkpoint_at(size)) == NOW
        assert scene.head == size
        known = size
    again = scene.post(log.request(20, 20))
    assert cosigned(again, log.writer.checkpoint_at(20)) == NOW
    assert scene.events == []


def test_the_empty_tree_is_cosigned_and_any_tree_extends_it(scene: Scene, log: Log) -> None:
    empty = Checkpoint.sign(ORIGIN, TreeHead(size=0, root=EMPTY_ROOT), LOG_KEY)
    cosigned(scene.post(AddCheckpoint(old_size=0, proof=(), checkpoint=empty).encode()), empty)
    cosigned(scene.post(log.request(0, 5)), log.writer.checkpoint_at(5))
    wrong = log.writer.checkpoint_at(5).encode().replace(b"\n5\n", b"\n0\n", 1)
    assert scene.post(b"old 0\n\n" + wrong).status == 400


def test_an_old_size_that_is_not_its_own_is_a_conflict_that_says_its_own(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    for old, size in ((0, 20), (6, 20), (8, 20), (0, 3), (3, 3), (0, 7)):
        answer = scene.post(log.request(old, size))
        assert (answer.status, answer.content_type, answer.body) == (409, SIZE_TYPE, b"7\n")
        assert read_answer(answer, KEY) == Conflict(size=7)
    assert scene.evidence == []


def test_an_old_size_above_the_checkpoint_is_no_request(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    assert scene.post(log.request(7, 3)).status == 400


def test_an_unknown_log_is_not_found(scene: Scene) -> None:
    other = Log(origin="simulated.strongroom.example/other").grow(2)
    assert scene.post(other.request(0, 2)).status == 404


def test_a_checkpoint_that_the_log_did_not_sign_is_forbidden(scene: Scene, log: Log) -> None:
    stranger = Log(key=SigningKey(sha256(b"stranger").digest())).grow(2)
    assert scene.post(stranger.request(0, 2)).status == 403
    flipped = bytearray(log.request(0, 5))
    flipped[-10] ^= 0x01
    assert scene.post(bytes(flipped)).status in (400, 403)
    # The right key's line under another text.
    text = log.request(0, 5).replace(b"\n5\n", b"\n6\n", 1)
    assert scene.post(text).status == 403
    assert scene.head == 0


def test_lines_by_strangers_are_ignored_and_not_kept(scene: Scene, log: Log) -> None:
    checkpoint = log.writer.checkpoint_at(5)
    stranger = checkpoint.cosign("somebody.example", SigningKey(bytes(32)), time=1)
    signed = checkpoint.with_signatures([stranger])
    cosigned(scene.post(AddCheckpoint(old_size=0, proof=(), checkpoint=signed).encode()), checkpoint)
    assert all(b"somebody" not in scene.store.read(name) for name in scene.store.list(""))


@pytest.mark.parametrize("proof", [(), (bytes(32),), (bytes(32),) * 63])
def test_a_proof_that_does_not_lead_there_is_unprocessable(scene: Scene, log: Log, proof: tuple[bytes, ...]) -> None:
    scene.post(log.request(0, 7))
    assert scene.post(log.request(7, 20, proof or (bytes(32),))).status == 422
    assert scene.head == 7
    with pytest.raises(WitnessRefusedError, match="found status 422"):
        read_answer(scene.post(log.request(7, 20, proof or (bytes(32),))), KEY)


def test_from_nothing_the_proof_is_empty(scene: Scene, log: Log) -> None:
    assert scene.post(log.request(0, 7, (bytes(32),))).status == 422
    assert scene.head == 0


def test_another_root_at_its_size_is_a_conflict_and_both_notes_are_kept(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    fork = Log(fork=" forked").grow(7, common=5)
    for old in (7, 0, 3):
        answer = scene.post(fork.request(old, 7))
        assert (answer.status, answer.body) == (409, b"7\n")
    kept = [Checkpoint.parse(scene.store.read(name)) for name in scene.evidence]
    assert {note.size for note in kept} == {7}
    assert len({note.root for note in kept}) == 2
    for note in kept:
        note.verify(VerifierKey.of_log(ORIGIN, LOG_KEY.public))
    # Said once, whoever repeats it.
    assert len(scene.events) == 1
    assert "another tree of the 7 entries" in scene.events[0]
    cosigned(scene.post(log.request(7, 20)), log.writer.checkpoint_at(20))


def test_a_fork_beyond_its_size_has_no_proof_and_both_notes_are_kept(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    fork = Log(fork=" forked").grow(12, common=5)
    assert scene.post(fork.request(7, 12)).status == 422
    assert sorted(Checkpoint.parse(scene.store.read(name)).size for name in scene.evidence) == [7, 12]


def test_evidence_has_an_end_and_a_bad_proof_does_not_use_up_a_forks_place(scene: Scene) -> None:
    log = Log().grow(200)
    scene.post(log.request(0, 7))
    for size in range(100, 190):
        assert scene.post(log.request(7, size, (bytes(32),))).status == 422
    assert len(scene.evidence) == 128
    scene.post(Log(fork="!").grow(7).request(0, 7))
    assert len(scene.evidence) == 130


def test_a_witness_that_was_restarted_goes_on_from_its_head(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    scene.witness = scene.process()
    assert scene.post(log.request(0, 7)).status == 409
    cosigned(scene.post(log.request(7, 20)), log.writer.checkpoint_at(20))


def test_a_clock_that_goes_backwards_makes_no_earlier_cosignature(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    scene.now = 0
    scene.witness = scene.process()
    assert cosigned(scene.post(log.request(7, 20)), log.writer.checkpoint_at(20)) == NOW


def test_no_cosignature_if_the_head_can_not_be_written(scene: Scene, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, data: bytes) -> None:
        raise StoreError("store: No space left on device")

    monkeypatch.setattr(scene.store, "write", full)
    with pytest.raises(StoreError, match="No space"):
        scene.post(log.request(0, 7))
    monkeypatch.undo()
    cosigned(scene.post(log.request(0, 9)), log.writer.checkpoint_at(9))


def test_the_head_is_durable_before_the_line_exists(scene: Scene, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    honest = Checkpoint.cosign

    def look(self: Checkpoint, name: str, key: SigningKey, *, time: int) -> NoteSignature:
        seen.append(scene.head)
        return honest(self, name, key, time=time)

    monkeypatch.setattr(Checkpoint, "cosign", look)
    scene.post(log.request(0, 7))
    assert seen == [7]


def test_two_branches_at_once_get_one_cosignature(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 5))
    logs = [log, Log(fork=" forked").grow(20, common=5)]
    bodies = [each.request(5, size) for each in logs for size in range(6, 14)] * 2
    answers: dict[int, Answer] = {}
    ready = threading.Barrier(len(bodies))

    def ask(number: int) -> None:
        ready.wait()
        answers[number] = scene.post(bodies[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = [bodies[number] for number, answer in answers.items() if answer.status == 200]
    assert len(good) == 1
    assert AddCheckpoint.parse(good[0]).checkpoint.size == scene.head


def test_a_log_may_have_a_second_key_and_then_either_signs(scene: Scene) -> None:
    second = SigningKey(sha256(b"second").digest())
    rotated = Log(key=second).grow(9)
    assert scene.post(rotated.request(0, 9)).status == 403
    WitnessState.open(scene.store, KEY).add(VerifierKey.of_log(ORIGIN, second.public))
    checkpoint = rotated.writer.checkpoint_at(9)
    cosigned(scene.post(rotated.request(0, 9)), checkpoint)
    # One of its keys' lines is false: refused, whatever the other says.
    false = Log(fork="!").grow(9).writer.checkpoint_at(9).note.signatures
    both = replace(checkpoint, note=replace(checkpoint.note, signatures=(*checkpoint.note.signatures, *false)))
    assert scene.post(AddCheckpoint(old_size=9, proof=(), checkpoint=both).encode()).status == 403


def test_a_memory_is_begun_once_and_belongs_to_one_key(scene: Scene) -> None:
    with pytest.raises(WitnessStateError, match="a witness begins once"):
        WitnessState.create(scene.store, KEY)
    other = VerifierKey.of_cosigner("witness.example/w2", WITNESS_KEY.public)
    with pytest.raises(WitnessStateError, match=r"expected the state of witness\.example/w2"):
        WitnessState.open(scene.store, other)
    with pytest.raises(WitnessStateError, match="cosigns no more"):
        WitnessState.open(MemoryStore(), KEY)
    with pytest.raises(WitnessStateError, match="expected a log's key"):
        WitnessState.open(scene.store, KEY).add(KEY)


def test_a_damaged_memory_is_refused_by_name(scene: Scene, log: Log) -> None:
    scene.post(log.request(0, 7))
    (name,) = scene.store.list("logs/")
    honest = scene.store.read(name)
    for damaged in (b"", honest[:-1], honest.replace(b"strongroom", b"strongdoor", 1)):
        scene.store.write(name, damaged)
        with pytest.raises(WitnessStateError, match="damaged"):
            scene.process()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda body: body.replace(b"old 0", b"old 00", 1), "old <decimal>"),
        (lambda body: body.replace(b"old 0", b"old +0", 1), "old <decimal>"),
        (lambda body: body.replace(b"old 0", b"old  0", 1), "old <decimal>"),
        (lambda body: body.replace(b"old 0", b"old 9223372036854775808", 1), "old <decimal>"),
        (lambda body: body.replace(b"\n", b"\r\n"), "expected ASCII"),
        (lambda body: body.replace(b"old 0\n", b"old 0\nAAAA\n", 1), "a hash of 32 bytes"),
        (lambda body: body.replace(b"old 0\n", b"old 0\n" + 64 * (b"A" * 43 + b"=\n"), 1), "at most 63 hashes"),
        (lambda body: body.replace(b"old 0", "old ０".encode(), 1), "expected ASCII"),
        (lambda body: body + b"x", "note: expected"),
        (lambda body: body[:-1], "note: expected"),
        (lambda body: b"", "old <decimal>"),
        (lambda body: body + 2**21 * b"\n", "at most"),
    ],
)
def test_what_is_no_request_is_said(scene: Scene, log: Log, change, found: str) -> None:
    body = log.request(0, 7)
    assert AddCheckpoint.parse(body).encode() == body
    answer = scene.post(change(body))
    assert answer.status == 400
    assert found in answer.body.decode()


def test_answers_that_are_none(log: Log) -> None:
    line = log.writer.checkpoint_at(7).cosign(KEY.name, WITNESS_KEY, time=NOW)
    good = Answer.cosigned(line)
    assert read_answer(good, KEY) == line
    other = log.writer.checkpoint_at(7).cosign("other.example", WITNESS_KEY, time=NOW)
    assert read_answer(replace(good, body=other.encode().encode() + good.body), KEY) == line
    for body in (b"", b"\n", good.body[:-1], other.encode().encode(), b"\xff\n", good.body + b"\n", good.body * 101):
        with pytest.raises(MalformedError):
            read_answer(replace(good, body=body), KEY)
    for body in (b"7", b"+7\n", b"07\n", b"", b"9223372036854775808\n", b"7\n\n", b"x\n"):
        with pytest.raises(MalformedError):
            read_answer(replace(Answer.conflict(7), body=body), KEY)
    with pytest.raises(MalformedError):
        read_answer(replace(Answer.conflict(7), content_type="text/plain"), KEY)
    with pytest.raises(WitnessRefusedError, match=r"found status 500: 'x�'"):
        read_answer(Answer(status=500, content_type="", body=b"x\xff"), KEY)
