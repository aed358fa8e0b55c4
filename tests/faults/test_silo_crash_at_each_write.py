"""A silo is stopped before and after each of its durable writes, in the middle of everything that it does.

Whatever the moment: a new process goes on from the store; no cosignature ever left without its head on the disk; an
update is sent as the bytes that were stored, or trained again; c_i is committed exactly once, together with its parent.
"""

import pytest
import torch
from silo_appliance import FakeAppliance, body_format, example, head_size, parameters, silo_machine
from stopping_store import Stopped, StoppingStore

from audit.entries import CohortMember, RoundPublished
from audit.store import MemoryStore
from protocol.session import Cosigned
from protocol.update import UpdateMetadata
from silo_client.bodies import read_control, seal_update
from silo_client.machine import Resume, Send, SiloMachine, Train


class World:
    """Three rounds of one silo against an appliance that takes what it is sent, and remembers it."""

    def __init__(self, stop_at: int | None, after: bool) -> None:
        self.appliance = FakeAppliance(*example())
        self.disk = MemoryStore()
        self.store = StoppingStore(self.disk, stop_at, after)
        self.uploads: dict[tuple[int, int], bytes] = {}
        self.used: list[bytes] = []
        self.outcome: int | None = None
        self.cosigned: list[int] = []

    def process(self, store: object) -> SiloMachine:
        """A new process of the silo, enrolled."""
        machine = silo_machine(self.appliance.agreement, store)  # type: ignore[arg-type]
        # What may have left is never ahead of the disk.
        assert head_size(machine) >= max(self.cosigned, default=0)
        self.appliance.enrol(machine)
        return machine

    def run(self) -> None:
        """Everything, in one process."""
        machine = self.process(self.store)
        self.rounds(machine, 1)
        self.end(machine)

    def rounds(self, machine: SiloMachine, first: int) -> None:
        for number in range(first, 4):
            self.round(machine, number)

    def round(self, machine: SiloMachine, number: int) -> None:
        """Open, cosign, announce, train, upload, publish."""
        appliance = self.appliance
        index = appliance.append(appliance.opened(number))
        step = machine.handle(appliance.cosign_request(head_size(machine)))
        assert isinstance(step, Send)
        self.cosigned.append(Cosigned.parse(step.message).size)
        self.train(machine, number, index)
        self.publish(number)

    def train(self, machine: SiloMachine, number: int, index: int) -> None:
        message = self.appliance.announcement(head_size(machine), index=index, outcome=self.outcome, moment=(number, 1))
        step = machine.handle(message)
        if isinstance(step, Train):
            self.seal(machine, step)
        else:
            assert isinstance(step, Resume)
        self.upload(machine, number)

    def seal(self, machine: SiloMachine, step: Train) -> None:
        c_i = read_control(machine.state, self.appliance.layout)
        d_i = torch.full_like(c_i, float(step.entry.round))
        update = seal_update(
            parameters(d_i),
            c_i + d_i,
            UpdateMetadata(steps=1, step_size_sum=0.1, metrics={}),
            opened=step.entry,
            state=machine.state,
            form=body_format(self.appliance.agreement, self.appliance.layout),
        )
        assert machine.hold(update)

    def upload(self, machine: SiloMachine, number: int) -> None:
        source = machine.state.open_pending()
        sent = bytearray(source.size())
        source.read_into(0, sent)
        # The same attempt is only ever sent as the same bytes.
        assert self.uploads.setdefault((number, 1), bytes(sent)) == bytes(sent)
        self.pending = machine.state.pending

    def publish(self, number: int) -> None:
        assert self.pending is not None
        assert self.pending.round == number
        member = CohortMember(silo="silo-0", upload_id=self.pending.upload_id, update=self.pending.digest, weight=1.0)
        self.used.append(self.pending.upload_id)
        self.outcome = self.appliance.append(
            RoundPublished(
                time=0,
                round=number,
                attempt=1,
                model_in=bytes(32),
                model_out=bytes(32),
                control_in=None,
                control_out=None,
                cohort=(member,),
                state=bytes(32),
            )
        )

    def recover(self) -> None:
        """A new process, which finishes what the old one left and goes on."""
        machine = self.process(self.disk)
        number = len(self.used) + 1
        opened = [i for i in range(self.appliance.log.size) if b'"round.opened"' in self.appliance.log.entry(i)]
        if len(opened) >= number:
            self.train(machine, number, opened[number - 1])
            self.publish(number)
            number += 1
        self.rounds(machine, number)
        self.end(machine)

    def end(self, machine: SiloMachine) -> None:
        self.appliance.append(self.appliance.closed())
        machine.handle(self.appliance.announcement(head_size(machine), outcome=self.outcome, moment=(40, 0)))
        assert len(self.used) == 3
        # c_i is the sum of exactly the changes that were used: 1 + 2 + 3.
        assert read_control(machine.state, self.appliance.layout).tolist() == [6.0] * 5
        assert machine.state.parent == self.used[-1]
        assert machine.state.pending is None
        left = [name for name in self.disk.list("") if "/updates/" in name or "/controls/" in name]
        assert left == [machine.state.path(machine.state.control_name(self.used[-1]))]


def changes() -> int:
    world = World(None, after=False)
    world.run()
    return world.store.changes


CHANGES = changes()


def test_the_undisturbed_run_writes_often() -> None:
    assert CHANGES > 20


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stop_at", range(1, CHANGES + 1))
def test_a_crash_at_any_write_loses_nothing(stop_at: int, after: bool) -> None:
    world = World(stop_at, after)
    with pytest.raises(Stopped):
        world.run()
    if len(world.used) == 3:
        machine = world.process(world.disk)
        world.appliance.append(world.appliance.closed())
        world.end(machine)
        return
    world.recover()
