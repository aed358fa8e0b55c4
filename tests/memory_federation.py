"""A whole federation in one process, without sockets and without a training loop: real enclave, real silo machines.

Each silo's "training" is a function of the model's parameters and its control variates; messages are delivered one by
one, so that a test can drop, delay, repeat or alter any of them.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import cast

import torch
from agreement_examples import good_agreement
from torch import Tensor

from appliance.enclave.machine import Enclave
from appliance.enclave.ports import Ports
from appliance.enclave.startup import recover, start
from appliance.enclave.succession import Successor
from attestation.collect.platform import Platform, SimulatedPlatform
from audit.log_files import LogFiles
from audit.store import MemoryStore, Store, StoreSource
from protocol.agreement import Agreement
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from protocol.keys import SigningKey
from protocol.layout import Layout, Role, Section, content_digest
from protocol.layout import Tensor as LayoutTensor
from protocol.recovery import RecoveryOffer, RecoveryStanding
from protocol.sealing import BlobKind, MemoryBytes
from protocol.sealing.bytes_io import read
from protocol.update import UpdateMetadata
from silo_client.bodies import BodyFormat, open_body, read_control, seal_initial, seal_update
from silo_client.kept_model import KeptModels
from silo_client.machine import Decline, Finish, Ignore, Resume, Send, SendInitial, SiloMachine, Train
from silo_client.model import Sections, allocate_sections, chunk_view
from silo_client.recovery import RecoveryDialog
from silo_client.state import SiloState, StateError

torch.set_num_threads(1)
MEASUREMENT = bytes.fromhex("5a" * 48)
Training = Callable[["MemorySilo", Train, Tensor, Tensor, Tensor], tuple[Tensor, UpdateMetadata]]


def signing_key(name: str) -> SigningKey:
    """A silo's identity key, always the same for a name."""
    return SigningKey(sha256(name.encode()).digest())


def layout_of(coordinates: int) -> Layout:
    """A model of one float32 vector."""
    tensor = LayoutTensor(name="weight", shape=(coordinates,), dtype="float32", role=Role.PARAMETER, alias=None)
    return Layout(tensors=(tensor,))


def initial_sections(layout: Layout) -> Sections:
    """The initial model: 0, 1, 2, … thousandths."""
    sections = allocate_sections(layout, tuple(Section))
    sections[Section.PARAMETERS].copy_(torch.arange(layout.coordinates(Section.PARAMETERS)) / 1000)
    return sections


def content_of(layout: Layout, sections: Sections) -> bytes:
    return content_digest(
        layout.digest, [sha256(chunk_view(layout, chunk, sections)).digest() for chunk in layout.chunks]
    )


def agreement_for(
    layout: Layout,
    *,
    owners: tuple[str, ...],
    replace: dict[str, str] | None = None,
    tee: str = "simulated",
    silo_tee: str | None = None,
) -> Agreement:
    """A good agreement over `layout` with one silo an owner ("silo-0", …) and keys that this module has."""
    text = good_agreement(owners=owners, tee=tee, silo_tee=silo_tee)
    for silo in Agreement.parse(text.encode(), "federation.toml").silos:
        text = text.replace(str(silo.identity), str(signing_key(silo.name).public))
    text = text.replace("11" * 32, layout.digest.hex()).replace(
        "22" * 32, content_of(layout, initial_sections(layout)).hex()
    )
    for old, new in (replace or {}).items():
        if old not in text:
            raise ValueError(f"the example has no {old!r}")
        text = text.replace(old, new)
    return Agreement.parse(text.encode(), "federation.toml")


def spooled(source: StoreSource) -> MemoryBytes:
    """Bytes on the other side of the wire, where they don't depend on their sender any more."""
    return MemoryBytes(read(source, 0, source.size()))


def gradient_descent(
    silo: "MemorySilo", train: Train, x: Tensor, c: Tensor, c_i: Tensor
) -> tuple[Tensor, UpdateMetadata]:
    """SCAFFOLD's local steps on ½|y − target|², in one-vector form: d_i = mean raw gradient − c_i."""
    eta, steps = train.entry.learning_rate, train.entry.local_steps
    y, total = x.clone(), torch.zeros_like(x)
    for _ in range(steps):
        gradient = y - silo.target
        total += eta * gradient
        y -= eta * (gradient - c_i + c)
    metadata = UpdateMetadata(steps=steps, step_size_sum=eta * steps, metrics={"loss": 1.0})
    return total / (eta * steps) - c_i, metadata


def kept_models(state: SiloState, layout: Layout, initial: Callable[[], Sections]) -> KeptModels:
    """What a silo that has the initial model, and keeps the newest, can hand back."""
    return KeptModels(
        state=state,
        layout=layout,
        agreed=content_of(layout, initial()),
        initial=initial,
        keeps=True,
    )


@dataclass
class MemorySilo:
    """One silo: its machine, its store, and what it saw."""

    name: str
    machine: SiloMachine
    form: BodyFormat
    kept: KeptModels
    target: Tensor
    training: Training = gradient_descent
    models: list[Tensor] = field(default_factory=list)
    errors: list[ProtocolError] = field(default_factory=list)
    finished: bool = False


class MemoryFederation:
    """The appliance, its silos, and the messages between them."""

    def __init__(
        self,
        *,
        silos: int = 4,
        coordinates: int = 5,
        replace: dict[str, str] | None = None,
        store: Store | None = None,
        owners: tuple[str, ...] | None = None,
        tee: str = "simulated",
        silo_tee: str | None = None,
        platform: Callable[[bytes], Platform] = SimulatedPlatform,
        agreement: Agreement | None = None,
        predecessor: Store | None = None,
    ) -> None:
        """`platform`: a machine's TEE for code with the given measurement. `agreement`: instead of the usual one.

        `predecessor`: the store of the federation that the agreement succeeds.
        """
        self.layout = layout_of(coordinates)
        self.platform = platform
        self.predecessor = predecessor
        self.initial = initial_sections(self.layout)
        self.agreement = agreement or agreement_for(
            self.layout,
            owners=owners or tuple(f"owner-{i}" for i in range(silos)),
            replace=replace,
            tee=tee,
            silo_tee=silo_tee,
        )
        self.store = store if store is not None else MemoryStore()
        self.now = 1_800_000_000
        self.outbox: deque[tuple[str, bytes]] = deque()
        self.to_witnesses: deque[tuple[str, bytes]] = deque()
        self.events: list[str] = []
        self.silo_stores = {silo.name: MemoryStore() for silo in self.agreement.silos}
        self.silos: dict[str, MemorySilo] = {}
        self.enclave = self.boot()

    def boot(
        self,
        *,
        store: Store | None = None,
        measurement: bytes = MEASUREMENT,
        successor: Successor | None = None,
        rotate_log_key: bool = False,
    ) -> Enclave:
        """Start an enclave on the store; every session is gone. `successor`: end the log for it."""
        self.outbox.clear()
        self.to_witnesses.clear()
        self.enclave = start(
            agreement=self.agreement,
            layout=self.layout,
            store=store if store is not None else self.store,
            platform=self.platform(measurement),
            ports=self.ports(),
            predecessor=None if self.predecessor is None else LogFiles(self.predecessor),
            successor=successor,
            rotate_log_key=rotate_log_key,
        )
        return self.enclave

    def recover(self, *, store: Store | None = None, measurement: bytes = MEASUREMENT) -> Enclave:
        """Start an enclave with --recover: it is (typed as) the enclave that it becomes."""
        self.outbox.clear()
        found = recover(
            agreement=self.agreement,
            layout=self.layout,
            store=store if store is not None else self.store,
            platform=self.platform(measurement),
            ports=self.ports(),
        )
        self.enclave = cast(Enclave, found)
        return self.enclave

    def ports(self) -> Ports:
        return Ports(
            clock=lambda: self.now,
            random=os.urandom,
            send=lambda silo, message: self.outbox.append((silo, message)),
            ask=lambda witness, message: self.to_witnesses.append((witness, message)),
            wake=lambda: None,
            event=self.events.append,
        )

    def asks(self, name: str) -> tuple[RecoveryDialog, RecoveryOffer]:
        """What `strongroom silo recover` does before it asks its user. The silo's own process is not running."""
        kept = self.kept(name)
        dialog = RecoveryDialog(
            agreement=self.agreement,
            silo=name,
            identity=signing_key(name),
            state=kept._state,
            models=kept.held(),
            random=os.urandom,
        )
        return dialog, dialog.converse(self.enclave.hello, self.now)

    def authorise(self, *names: str) -> RecoveryStanding | None:
        """What it does once the user has agreed, for each of these silos; the last one's answer."""
        standing = None
        for name in names:
            dialog, _ = self.asks(name)
            standing = dialog.stands(self.enclave.enrol(dialog.grant()))
        return standing

    def kept(self, name: str) -> KeptModels:
        """A silo's models, in its store."""
        state = SiloState.open(self.silo_stores[name], agreement=self.agreement.digest, silo=name)
        return kept_models(state, self.layout, lambda: self.initial)

    def silo(self, name: str, *, agreement: Agreement | None = None) -> MemorySilo:
        """A silo's process, new: only its store is from before."""
        agreement = agreement or self.agreement
        index = [silo.name for silo in self.agreement.silos].index(name)
        state = SiloState.open(self.silo_stores[name], agreement=agreement.digest, silo=name)
        machine = SiloMachine(
            agreement=agreement,
            silo=name,
            identity=signing_key(name),
            platform=self.platform(MEASUREMENT),
            state=state,
            clock=lambda: self.now,
            random=os.urandom,
        )
        kept = kept_models(state, self.layout, lambda: self.initial)
        form = BodyFormat(
            agreement=agreement, layout=self.layout, silo=name, identity=signing_key(name), random=os.urandom
        )
        target = torch.full((self.layout.coordinates(Section.PARAMETERS),), float(index + 1))
        self.silos[name] = MemorySilo(name=name, machine=machine, form=form, kept=kept, target=target)
        return self.silos[name]

    def enrol(self, silo: MemorySilo) -> None:
        """Hello, Welcome, Catchup where the log's key is a new one, Enrol, Admitted, Join."""
        welcome = self.enclave.hello(silo.machine.hello())
        while (question := silo.machine.catchup(welcome)) is not None:
            silo.machine.caught_up(welcome, self.enclave.hello(question))
        silo.machine.admitted(self.enclave.enrol(silo.machine.welcome(welcome)))
        self.enclave.receive(silo.name, silo.machine.join())

    def enrol_all(self) -> None:
        for terms in self.agreement.silos:
            self.enrol(self.silo(terms.name))

    def run(self, *, until: Callable[[], bool] | None = None, deadline: bool = True) -> None:
        """Deliver messages until nothing moves, letting deadlines pass where `deadline`."""
        while not (until and until()):
            self.enclave.tick()
            if self.outbox:
                self.deliver(*self.outbox.popleft())
            elif deadline and (due := self.enclave.next_due()) is not None and self.unfinished():
                self.now = max(self.now, due)
                self.enclave.tick()
            else:
                return

    def unfinished(self) -> bool:
        return not all(silo.finished for silo in self.silos.values())

    def deliver(self, name: str, message: bytes) -> None:
        """One message of the enclave to a silo, and what the silo does about it."""
        silo = self.silos.get(name)
        if silo is None:
            return
        try:
            step = silo.machine.handle(message)
            self.act(silo, step)
        except StateError:
            raise  # The silo's own disk: its process ends.
        except ProtocolError as error:
            silo.errors.append(error)

    def act(self, silo: MemorySilo, step: object) -> None:
        if isinstance(step, Send):
            self.enclave.receive(silo.name, step.message)
        elif isinstance(step, Decline):
            self.enclave.receive(silo.name, step.message)
            silo.errors.append(step.error)
        elif isinstance(step, SendInitial):
            self.send_initial(silo, step.digest)
        elif isinstance(step, Train):
            self.train(silo, step)
        elif isinstance(step, Resume):
            self.upload(silo)
        elif isinstance(step, Finish):
            silo.models.append(self.open_model(silo, step)[0])
            silo.finished = True
        elif not isinstance(step, Ignore):
            raise TypeError(f"no such step: {step!r}")

    def send_initial(self, silo: MemorySilo, content: bytes) -> None:
        """Hand in the model that the enclave asks for; a silo that doesn't hold it lets the time run out."""
        enrolled, state, model = silo.machine.enrolled, silo.machine.state, silo.kept.find(content)
        if model is None:
            return
        _, name = seal_initial(
            model,
            content=content,
            boot_id=enrolled.boot_id,
            recipient=enrolled.keys.sealing_key,
            state=state,
            form=silo.form,
        )
        self.enclave.complete(silo.name, spooled(state.files.open(state.path(name))))

    def open_model(self, silo: MemorySilo, step: Train | Finish) -> tuple[Tensor, Tensor]:
        """The verified parameters x and control variate c."""
        model = self.body(step.model.name)
        sections, _ = open_body(model, step.model, BlobKind.MODEL, step.entry.model, silo.form)
        x = sections[Section.PARAMETERS]
        silo.kept.keep(step.entry.model, sections)
        control = step.control if isinstance(step, Train) else None
        if control is None or not isinstance(step, Train) or step.entry.control is None:
            return x, torch.zeros_like(x)
        body = self.body(control.name)
        sections, _ = open_body(body, control, BlobKind.CONTROL, step.entry.control, silo.form)
        return x, sections[Section.PARAMETERS]

    def body(self, name: str) -> MemoryBytes:
        """A body as the gateway serves it."""
        return spooled(self.store.open(f"models/{name}.blob"))

    def train(self, silo: MemorySilo, step: Train) -> None:
        x, c = self.open_model(silo, step)
        silo.models.append(x.clone())
        c_i = read_control(silo.machine.state, self.layout)
        d_i, metadata = silo.training(silo, step, x, c, c_i)
        sections = {Section.PARAMETERS: d_i}
        update = seal_update(sections, c_i + d_i, metadata, opened=step.entry, state=silo.machine.state, form=silo.form)
        silo.machine.hold(update)
        self.upload(silo)

    def upload(self, silo: MemorySilo) -> None:
        pending = silo.machine.state.pending
        if pending is None:
            raise ValueError("no update to upload")
        try:
            answer = self.enclave.complete(silo.name, spooled(silo.machine.state.open_pending()))
        except RefusedError as error:
            if error.refusal.code is RefusalCode.ROUND_CLOSED:
                return  # Too late; the next announcement says what became of it.
            raise
        silo.machine.accepted(pending, answer)

    def history(self) -> Iterator[tuple[int, bytes]]:
        from audit.log import LogReader

        yield from enumerate(LogReader(self.store).entries())

    def kinds(self) -> list[str]:
        from audit.entries import parse_entry

        return [str(parse_entry(data).KIND) for _, data in self.history()]
