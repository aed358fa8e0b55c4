"""Silos as users run them, against the real enclave in one process: threads and queues in the place of sockets.

A test breaks the channels where it likes: `QueueChannel.fail` is asked before and after every call.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from memory_federation import MEASUREMENT, agreement_for, initial_sections, signing_key
from silo_appliance import NOW, body_format
from torch import nn

from appliance.enclave.machine import Enclave
from appliance.enclave.ports import Ports
from appliance.enclave.startup import start
from attestation.collect.platform import SimulatedPlatform
from audit.entries import parse_entry
from audit.log import LogReader
from audit.store import MemoryStore, NotFound, Store
from protocol.errors import RefusalCode, refuse
from protocol.sealing import ByteSource
from silo_client import courier as courier_module
from silo_client.channel import ChannelLostError, Credential
from silo_client.courier import Courier
from silo_client.events import Event
from silo_client.kept_model import KeptModels
from silo_client.machine import SiloMachine
from silo_client.model import layout_of
from silo_client.rounds import Round
from silo_client.session import Silo
from silo_client.state import SiloState

torch.set_num_threads(1)
courier_module._FIRST_PAUSE_SECONDS, courier_module._LONGEST_PAUSE_SECONDS = 0.002, 0.02
PATIENCE_SECONDS = 60
_Result = TypeVar("_Result")


class Net(nn.Module):
    """A small network with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@dataclass
class Watch:
    """An observer that keeps everything."""

    events: list[Event] = field(default_factory=list)
    steps: int = 0

    def event(self, event: Event) -> None:
        self.events.append(event)

    def step(self, *, round_number: int, done: int, total: int) -> None:
        self.steps += 1

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]


class QueueChannel:
    """A channel to the world's enclave. `fail(call, before)` says whether the connection breaks at this moment."""

    def __init__(self, world: "World", name: str, fail: Callable[[str, bool], bool] | None) -> None:
        self.world = world
        self.name = name
        self.fail = fail or (lambda call, before: False)
        self.inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.connected = False
        self.calls: list[str] = []

    def lose(self) -> None:
        """The connection is gone."""
        self.connected = False
        self.inbox.put(None)
        self.world.leave(self.name)

    def hello(self, message: bytes) -> bytes:
        return self._call("hello", lambda: self.world.enclave.hello(message))

    def enrol(self, message: bytes) -> bytes:
        return self._call("enrol", lambda: self.world.enclave.enrol(message))

    def connect(self, credential: Credential) -> None:
        self.world.leave(self.name)
        self.inbox = queue.SimpleQueue()
        self.connected = True
        self._call("connect", lambda: None)

    def send(self, message: bytes) -> None:
        self._require()
        self._call("send", lambda: self.world.enclave.receive(self.name, message))

    def receive(self, timeout_seconds: float | None) -> bytes | None:
        self._require()
        inbox = self.inbox
        try:
            message = inbox.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if message is None:
            self.connected = False
            raise ChannelLostError("the test cut the session")
        return self._call("receive", lambda: message)

    def download(self, name: str, *, limit_bytes: int) -> ByteSource:
        self._require()
        try:
            return self._call("download", lambda: self.world.store.open(f"models/{name}.blob"))
        except NotFound as error:
            # As the gateway says it.
            raise refuse(RefusalCode.WRONG_ROUND, expected="a body", found="none", remedy="wait") from error

    def upload(self, upload_id: bytes, blob: ByteSource) -> bytes:
        self._require()
        return self._call("upload", lambda: self.world.enclave.complete(self.name, blob))

    def close(self) -> None:
        self.lose()

    def _require(self) -> None:
        if not self.connected:
            raise ChannelLostError("the test cut the session")

    def _call(self, call: str, act: Callable[[], _Result]) -> _Result:
        self.calls.append(call)
        if self.fail(call, True):
            self.lose()
            raise ChannelLostError(f"the test cut {call} before it arrived")
        # A boot kills whatever runs: nothing of the old process goes on beside the new one.
        with self.world.gate:
            result = act()
        if self.fail(call, False):
            self.lose()
            raise ChannelLostError(f"the test cut {call} before it was answered")
        return result


class World:
    """The appliance, and whoever connects to it."""

    def __init__(self, replace: dict[str, str] | None = None) -> None:
        self.layout = layout_of(Net())
        self.agreement = agreement_for(self.layout, owners=tuple(f"owner-{i}" for i in range(4)), replace=replace)
        self.store: Store = MemoryStore()
        self.disks = {silo.name: MemoryStore() for silo in self.agreement.silos}
        self.channels: dict[str, QueueChannel] = {}
        self.now = NOW
        self.due = threading.Event()
        self.gate = threading.RLock()
        self.stop = False
        self.enclave = self.boot()
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()

    def boot(self) -> Enclave:
        """Start the enclave, the first time or again; every session ends."""
        with self.gate:
            return self._boot()

    def _boot(self) -> Enclave:
        self.enclave = start(
            agreement=self.agreement,
            layout=self.layout,
            store=self.store,
            platform=SimulatedPlatform(MEASUREMENT),
            ports=Ports(
                clock=lambda: self.now,
                random=os.urandom,
                send=self._send,
                ask=lambda witness, message: None,
                wake=self.due.set,
                event=lambda line: None,
            ),
        )
        for channel in list(self.channels.values()):
            if channel.connected:
                channel.lose()
        return self.enclave

    def close(self) -> None:
        self.stop = True
        self.due.set()
        self.ticker.join(PATIENCE_SECONDS)

    def leave(self, name: str) -> None:
        self.enclave.left(name)

    def machine(self, name: str) -> SiloMachine:
        return SiloMachine(
            agreement=self.agreement,
            silo=name,
            identity=signing_key(name),
            platform=SimulatedPlatform(MEASUREMENT),
            state=SiloState.open(self.disks[name], agreement=self.agreement.digest, silo=name),
            clock=lambda: self.now,
            random=os.urandom,
        )

    def silo(
        self,
        name: str,
        watch: Watch,
        *,
        fail: Callable[[str, bool], bool] | None = None,
        initial: bool = True,
    ) -> Silo:
        """A silo's session, as `strongroom.silo` makes it."""
        machine = self.machine(name)
        channel = QueueChannel(self, name, fail)
        self.channels[name] = channel
        courier = Courier(machine=machine, channel=channel, observer=watch, clock=lambda: self.now, background=True)
        return Silo(
            machine=machine,
            courier=courier,
            form=body_format(self.agreement, self.layout, name),
            observer=watch,
            models=KeptModels(
                state=machine.state,
                layout=self.layout,
                agreed=self.agreement.model.initial,
                initial=(lambda: initial_sections(self.layout)) if initial else None,
                keeps=True,
            ),
        )

    def kinds(self) -> list[str]:
        return [str(parse_entry(data).KIND) for data in LogReader(self.store).entries()]

    def _send(self, name: str, message: bytes) -> None:
        channel = self.channels.get(name)
        if channel is not None and channel.connected:
            channel.inbox.put(message)

    def _tick(self) -> None:
        while not self.stop:
            self.due.wait(0.05)
            self.due.clear()
            with self.gate:
                self.enclave.tick()


def train(model: nn.Module, found: Round, index: int) -> None:
    """A user's local training."""
    model.load_state_dict(found.state_dict())
    optimizer = found.local_optimizer(torch.optim.SGD(model.parameters(), lr=found.learning_rate))
    torch.manual_seed(index)
    for _ in range(3):
        optimizer.zero_grad()
        inputs = torch.randn(8, 2)
        (model(inputs) - index).square().mean().backward()
        optimizer.step()
    found.submit(model, {"loss": float(index)})


class Loop(threading.Thread):
    """One user's whole program, in a thread; `result` is the final model's state dict."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        before_submit: Callable[[Round], None] | None = None,
        **arguments: object,
    ) -> None:
        super().__init__(daemon=True)
        self.silo_name = name
        self.watch = Watch()
        self.silo = world.silo(name, self.watch, **arguments)  # type: ignore[arg-type]
        self.result: dict[str, torch.Tensor] = {}
        self.error: BaseException | None = None
        self.trained: list[tuple[int, int]] = []
        self._before_submit = before_submit
        self._index = int(name[-1])

    def run(self) -> None:
        try:
            model = Net()
            with self.silo:
                for found in self.silo.rounds():
                    if self._before_submit is not None:
                        self._before_submit(found)
                    self.trained.append((found.number, found.attempt))
                    train(model, found, self._index)
                self.result = self.silo.final_state_dict()
        except BaseException as error:
            self.error = error

    def finish(self) -> "Loop":
        """Wait for its end; raise what it raised."""
        self.join(PATIENCE_SECONDS)
        if self.is_alive():
            raise TimeoutError(f"{self.silo_name} does not end: {self.watch.kinds()[-5:]}")
        if self.error is not None:
            raise self.error
        return self


@contextmanager
def world(replace: dict[str, str] | None = None) -> Iterator[World]:
    """A world that ends with the test."""
    made = World(replace)
    try:
        yield made
    finally:
        made.close()
