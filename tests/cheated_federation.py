"""A federation in the hands of `hostile_operator`, brought to the moment at which its silos are cheated.

It stands in the second attempt at round 4: the first ended with a restart of the enclave, and so did the first one at
round 2, whose upload the operator changed. Silo-4 (`VICTIM`) comes back whenever a test starts it, silo-3 (`IN_DOUBT`)
too, with an update out whose outcome it doesn't know. Silo-1 helps the operator; the others wait in the round.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hostile_operator import Cheat, Gateway, Operator, hostile_operator
from least_squares_oracle import TASK, Rows
from nursery import nursery
from process_federation import ProcessFederation, Running, federation
from silo_by_hand import HandSilo, drive

from audit.entries import Entry, parse_entry
from audit.log import LogReader
from audit.note import Checkpoint
from audit.store import DirectoryStore
from protocol.session import Announcement, LoggedEntry
from protocol.wire import strongroom_pb2 as pb
from silo_client.machine import Train

OWNERS = ("alpenklinik", "alpenklinik", "baltic-bank", "cantone", "delta-telecom")
SPOILED, HELPER, IN_DOUBT, VICTIM = "silo-0", "silo-1", "silo-3", "silo-4"
DIMENSION = 9


@dataclass
class Stage:
    """Where the federation stands, and what the operator has kept of the way there."""

    federation: ProcessFederation
    gateway: Gateway
    helper: HandSilo
    old_bodies: dict[str, bytes]
    """The bodies of round 3, by kind."""
    repeated: Running
    """Silo-4's first process, which heard the announcement of round 3 again in the middle of round 4."""
    restarted: Running
    """Silo-4's second process, which heard the former boot's announcement again after a restart."""
    waiting: dict[str, Running]
    """The processes of silo-0 and silo-2, which wait in the round."""
    _runs: list[Running] = field(default_factory=list)

    def cheated(self, cheat: Cheat, silo: str = VICTIM) -> Running:
        """A silo's process that meets this cheat."""
        self.gateway.cheat = cheat
        self._runs.append(self.federation.start_silo(silo))
        return self._runs[-1]

    def model_key(self) -> bytes:
        """The content key of this round's model: every silo has it."""
        told = self.helper.steps[-1]
        assert isinstance(told, Train)
        return told.model.key.raw()

    def leave(self) -> None:
        """The operator is honest again, and nobody is left of those that he has cheated."""
        for run in self._runs:
            run.kill()
        self.gateway.cheat = Cheat()

    def bodies(self) -> dict[str, bytes]:
        """The bodies of this round, by kind."""
        return bodies(self.federation.store)

    def announced(self, silo: str) -> list[Announcement]:
        """What was announced to a silo before any cheating of the tests, the newest last."""
        return self.gateway.announcements(silo)

    def logged(self, wanted: Callable[[Entry], bool], announced: Announcement) -> LoggedEntry:
        """An entry and its proof in the tree that was announced, as anybody can make it who has the store."""
        size = note_of(announced).size
        store = DirectoryStore(self.federation.store)
        log = LogReader(store)
        index, data = next((at, data) for at, data in enumerate(log.entries()) if wanted(parse_entry(data)))
        found = LoggedEntry(index=index, entry=data, hashes=log.inclusion(index, size))
        store.close()
        return found


def note_of(announcement: Announcement) -> Checkpoint:
    """Its checkpoint."""
    return Checkpoint.parse(announcement.checkpoint.encode())


def silo_refusing(run: Running, *, exit_code: int) -> str:
    """The sentence in which a silo's process has refused to go on, without a round."""
    assert run.exit_code() == exit_code, run.errors
    assert not any(event["event"] in ("round", "submitted") for event in run.events), run.events
    line = run.errors.splitlines()[-1]
    assert (run.events[-1]["event"], run.events[-1]["text"]) == ("refused", line)
    return line


def bodies(store: Path) -> dict[str, bytes]:
    """The model and the control in a store, by kind."""
    return {path.suffixes[0].removeprefix("."): path.read_bytes() for path in (store / "models").iterdir()}


@contextmanager
def cheated_federation() -> Iterator[Stage]:
    """Play the story; everything is gone afterwards."""
    torch.manual_seed(8)
    replaced = {
        "enrolment_deadline_seconds = 600": "enrolment_deadline_seconds = 1",
        "round_deadline_seconds = 60": "round_deadline_seconds = 3000",
    }
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    with (
        federation(network=network, task=TASK, replace=replaced, owners=OWNERS) as made,
        hostile_operator(made) as operator,
    ):
        for i, name in enumerate(made.names):
            Rows.random(i, DIMENSION).write(made.folder / name)
        yield _story(made, operator)


def _story(made: ProcessFederation, operator: Operator) -> Stage:
    nursery()
    made.gate(0)
    enclave = operator.boot(made.store).started()
    gateway = operator.gateway(enclave)
    for name in made.names:
        made.write_silo(name, gateway.ports)
    silos = {name: made.start_silo(name) for name in made.names}
    _all_in(silos, 1)
    made.gate(1)
    _all_in(silos, 2)
    gateway.cheat = _spoil_once(SPOILED)
    made.gate(2)
    _all_in(silos, 3)
    old_bodies = bodies(made.store)
    made.gate(3)
    _all_in(silos, 4)

    repeated = silos[VICTIM]
    left = gateway.gone.count(VICTIM)
    gateway.inject(VICTIM, gateway.announcements(VICTIM)[-2].encode())
    gateway.wait_gone(VICTIM, left + 1)
    made.gate(4, VICTIM)
    repeated.exit_code()
    made.gate(3, VICTIM)
    restarted = made.start_silo(VICTIM)
    # What it had trained was sealed before it found out.
    restarted.wait_for("submitted", round=4)
    former = gateway.announcements(VICTIM)[-1]
    made.gate(4, IN_DOUBT)
    silos[IN_DOUBT].wait_for("submitted", round=4)
    for name in (IN_DOUBT, HELPER):
        silos[name].kill()

    enclave.kill()
    operator.boot(made.store).started()
    restarted.wait_for("round", round=4, attempt=2)
    said = len(restarted.events)
    gateway.inject(VICTIM, former.encode())
    restarted.wait_for("enrolled", since=said)
    restarted.kill()
    helper = HandSilo(made, HELPER, ports=gateway.ports)
    helper.join()
    drive([helper], lambda: helper.opened, "the helper to hear of the round")
    return Stage(
        federation=made,
        gateway=gateway,
        helper=helper,
        old_bodies=old_bodies,
        repeated=repeated,
        restarted=restarted,
        waiting={name: silos[name] for name in ("silo-0", "silo-2")},
    )


def _all_in(silos: dict[str, Running], round_number: int) -> None:
    for silo in silos.values():
        silo.wait_for("round", round=round_number)


def _spoil_once(wanted: str) -> Cheat:
    """Flip a bit of a silo's next update once the enclave has accepted it, and before it merges."""
    blobs: list[Path] = []

    def uploaded(silo: str, blob: Path) -> None:
        if silo == wanted:
            blobs.append(blob)

    def answer(silo: str, reply: pb.Reply) -> pb.Reply:
        if silo == wanted and len(blobs) == 1:
            flip(blobs[0])
        return reply

    return Cheat(uploaded=uploaded, answer=answer)


def flip(blob: Path) -> None:
    """Change a bit of a blob's last chunk, where it lies."""
    with blob.open("r+b") as file:
        file.write(flipped(blob.read_bytes()))


def flipped(blob: bytes) -> bytes:
    """A blob with another bit in its last chunk: before the signature (64) and the chunk's tag (16)."""
    place = len(blob) - 64 - 16 - 8
    return blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
