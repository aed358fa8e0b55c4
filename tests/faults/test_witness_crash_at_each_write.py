"""A witness is stopped before and after every durable change: it never cosigns two histories, and it goes on."""

import pytest
from stopping_store import Stopped, StoppingStore

from audit.log import LogWriter
from audit.note import Checkpoint, VerifierKey
from audit.store import MemoryStore
from audit.witnessing.answer import Answer
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import WitnessState, WitnessStateError
from audit.witnessing.witness import Witness
from protocol.keys import SigningKey

ORIGIN = "simulated.strongroom.example/digits"
LOG_KEY, WITNESS_KEY = SigningKey(b"l" * 32), SigningKey(b"w" * 32)
KEY = VerifierKey.of_cosigner("witness.example/w1", WITNESS_KEY.public)
SIZES = (2, 5, 9)


def log_of(mark: str) -> LogWriter:
    writer = LogWriter.create(MemoryStore(), ORIGIN, LOG_KEY)
    for number in range(SIZES[-1]):
        writer.append([f"entry {number}{mark if number >= SIZES[0] else ''}".encode()])
    return writer


HONEST, FORKED = log_of(""), log_of(" forked")


class World:
    """A witness on a disk that stops it, the log's view of it, and every checkpoint that it cosigned."""

    def __init__(self, stop_at: int | None, *, after: bool) -> None:
        self.disk = MemoryStore()
        self.store = StoppingStore(self.disk, stop_at, after)
        self.cosigned: list[Checkpoint] = []
        self.known = 0

    def run(self, store: MemoryStore | StoppingStore) -> None:
        """Init or open, and cosign; between the steps somebody tries a fork."""
        try:
            state = WitnessState.open(store, KEY)
        except WitnessStateError:
            # Nobody has been cosigned for yet: `witness init` and `add` are repeated by hand.
            assert not self.cosigned
            state = WitnessState.create(store, KEY)
        state.add(VerifierKey.of_log(ORIGIN, LOG_KEY.public))
        witness = Witness(key=WITNESS_KEY, state=state, clock=lambda: 1_800_000_000, event=lambda line: None)
        for size in SIZES:
            answer = self.ask(witness, HONEST, size)
            # After a crash the head may be one that no line has left for: then it asks for no less.
            assert answer.status == 200 or self.known > size
            if size > SIZES[0]:
                assert self.ask(witness, FORKED, size).status in (409, 422)
        assert self.ask(witness, FORKED, SIZES[-1], old=SIZES[0]).status == 409

    def ask(self, witness: Witness, log: LogWriter, size: int, old: int | None = None) -> Answer:
        """Ask as the courier does: again, from what a conflict names."""
        old = min(self.known, size) if old is None else old
        answer = self.post(witness, log, size, old)
        if log is HONEST and answer.status == 409:
            self.known = int(answer.body)
            answer = self.post(witness, log, size, self.known) if self.known <= size else answer
        if answer.status == 200:
            self.cosigned.append(log.checkpoint_at(size))
            self.known = size
        return answer

    def post(self, witness: Witness, log: LogWriter, size: int, old: int) -> Answer:
        proof = log.consistency(old, size) if 0 < old < size else ()
        request = AddCheckpoint(old_size=old, proof=proof, checkpoint=log.checkpoint_at(size))
        return witness.add_checkpoint(request.encode())


def changes() -> int:
    world = World(None, after=False)
    world.run(world.store)
    return world.store.changes


CHANGES = changes()


def test_the_undisturbed_run_writes_its_heads_and_its_evidence() -> None:
    assert 2 + len(SIZES) + 2 <= CHANGES


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stop_at", range(1, CHANGES + 1))
def test_a_crash_at_any_write_forgets_nothing_that_was_cosigned(stop_at: int, after: bool) -> None:
    world = World(stop_at, after=after)
    with pytest.raises(Stopped):
        world.run(world.store)
    before = len(world.cosigned)
    world.run(world.disk)
    assert {note.root for note in world.cosigned} <= {HONEST.root(size) for size in SIZES}
    assert [note.size for note in world.cosigned] == sorted(note.size for note in world.cosigned)
    assert world.cosigned[-1].size == SIZES[-1]
    assert len(world.cosigned) > before or before == len(SIZES)
