"""`strongroom.simulate`: a whole federation in one process, to tune with before anything is deployed.

The enclave, its log, the sealing, the silos' checks and their training API are the real ones; only the sockets are
missing, and the clock is the simulation's own: it jumps to the next deadline once nobody has anything left to say.
The agreement is simulated as its *twin*: the same terms under simulated TEEs and made-up identity keys, because no
researcher holds the keys of all silos. The twin's digest and origin differ, so nothing of it passes for the real thing.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from appliance.enclave.machine import Enclave
from appliance.enclave.ports import Ports
from appliance.enclave.startup import start
from attestation.collect.measurement import installed_code, measure
from attestation.collect.platform import SimulatedPlatform
from attestation.encoding import labelled_digest
from attestation.simulated.reference_values import simulated_reference_values
from audit.entries import RoundAbandoned, RoundPublished, UpdateRefused, parse_entry
from audit.log import LogReader
from audit.store import DirectoryStore, MemoryStore, Store
from protocol.agreement import Agreement
from protocol.agreement_render import render_agreement, render_silo
from protocol.agreement_terms import SIMULATED_PREFIX
from protocol.errors import ProtocolError, RefusalCode, refuse
from protocol.keys import SigningKey
from protocol.layout import Layout
from protocol.sealing import ByteSource
from silo_client.bodies import BodyFormat
from silo_client.channel import Credential
from silo_client.courier import Courier
from silo_client.events import Silent
from silo_client.initial_model import read_initial_model
from silo_client.kept_model import KeptModels
from silo_client.machine import SiloMachine
from silo_client.rounds import Round
from silo_client.session import Silo
from silo_client.state import SiloState

Task: TypeAlias = Callable[[Round], None]
Cohorts: TypeAlias = Mapping[int, Collection[str]] | Sequence[Collection[str]]
_EPOCH = 1_800_000_000
_DEADLINES_WITHOUT_PROGRESS = 1_000


class SimulationError(ProtocolError):
    """The simulation can't go on: the message says which round, and what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRound:
    """One published round: its attempt, the silos whose updates it used, and their aggregated metrics."""

    number: int
    attempt: int
    cohort: tuple[str, ...]
    model: bytes
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a simulation came to.

    `rounds` are those published so far, in this call or in earlier ones over the same store; `abandoned` and `refused`
    count attempts without a result and updates that the enclave refused. `state_dict` is the newest model if the
    federation has ended, else None. `agreement` is the twin that was simulated, `store` where its log lies.
    """

    agreement: Agreement
    store: Store
    rounds: tuple[SimulatedRound, ...]
    abandoned: int
    refused: int
    state_dict: Mapping[str, Tensor] | None
    seconds: float


def simulate(
    agreement: str | os.PathLike[str],
    tasks: Mapping[str, Task],
    *,
    participation: Cohorts | None = None,
    drops: Cohorts | None = None,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    rounds: int | None = None,
) -> History:
    """Run the federation of a `federation.toml`, whose layout.json and initial.safetensors lie beside it.

    `tasks`: for each silo, what it does with a `Round`: load, train, submit. `participation`: the silos that train in
    a round, by number or (for rounds from 1 on) in order; all of them where nothing is said. `drops`: silos whose
    upload gets lost in a round. `seed` makes the silos' keys. `store`: a folder to keep everything in; a later call
    with the same goes on where this one stopped, as after a restart. `rounds`: stop once so many are published.
    Raises `AgreementError`, `SimulationError`, and what the tasks raise.
    """
    with Simulation(
        Path(agreement), tasks, participation=participation, drops=drops, seed=seed, folder=_path(store)
    ) as simulation:
        return simulation.run(rounds)


class Simulation:
    """A federation in one process; `simulate` is the short way to it."""

    def __init__(
        self,
        file: Path,
        tasks: Mapping[str, Task],
        *,
        participation: Cohorts | None = None,
        drops: Cohorts | None = None,
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        measurement = measure(installed_code())
        original = Agreement.parse(file.read_bytes(), file.name)
        self.agreement = twin_of(original, measurement, seed)
        self.layout = Layout.parse((file.parent / "layout.json").read_bytes())
        self._initial = file.parent / "initial.safetensors"
        self._tasks = dict(tasks)
        if missing := [silo.name for silo in self.agreement.silos if silo.name not in self._tasks]:
            raise SimulationError(f"tasks: expected one for every silo, found none for {', '.join(missing)}")
        self._participation = _by_round(participation)
        self._drops = _by_round(drops)
        self._folder = folder
        self._now = _EPOCH
        self._platform = SimulatedPlatform(measurement)
        self.store: Store = MemoryStore() if folder is None else DirectoryStore(folder / "appliance")
        self._mail: dict[str, deque[bytes]] = {silo.name: deque() for silo in self.agreement.silos}
        self.enclave = self._boot()
        self.silos = {silo.name: self._silo(silo.name, seed) for silo in self.agreement.silos}
        self._metrics: dict[int, Mapping[str, float]] = {}

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(self, *error: object) -> None:
        for member in self.silos.values():
            member.silo.close()

    def run(self, rounds: int | None = None) -> History:
        """Run until the federation ends or `rounds` are published."""
        began = time.monotonic()
        idle = 0
        while not self._over(rounds):
            if self._step():
                idle = 0
            elif idle > _DEADLINES_WITHOUT_PROGRESS or not self._wait():
                raise SimulationError(self._stuck())
            else:
                idle += 1
        return self._history(time.monotonic() - began)

    def _over(self, rounds: int | None) -> bool:
        if all(member.silo.finished for member in self.silos.values()):
            return True
        described = self.enclave.describe()
        return rounds is not None and described.phase != "closed" and described.round > rounds

    def _step(self) -> bool:
        """Let everybody do one thing; False if nobody had anything to do."""
        moved = False
        for member in self.silos.values():
            moved |= self._serve(member)
            self.enclave.tick()
        return moved

    def _serve(self, member: "_Member") -> bool:
        """Deliver a silo's messages; train if it takes part in the round that is announced."""
        moved = member.courier.pump(0)
        while member.courier.pump(0):
            pass
        found = member.silo.poll()
        if found is None:
            return moved
        self._metrics.setdefault(found.number - 1, found.metrics)
        if member.name in self._participation.get(found.number, self._tasks):
            self._tasks[member.name](found)
        else:
            found.skip()
        return True

    def _wait(self) -> bool:
        """Let time pass up to the next deadline; False if none is set."""
        due = self.enclave.next_due()
        if due is None:
            return False
        self._now = max(self._now + 1, due)
        self.enclave.tick()
        return True

    def _boot(self) -> Enclave:
        if self._folder is not None and self.store.exists("log/checkpoint"):
            newest = parse_entry(list(LogReader(self.store).entries())[-1])
            self._now = max(self._now, getattr(newest, "time", 0) + 1)
        return start(
            agreement=self.agreement,
            layout=self.layout,
            store=self.store,
            platform=self._platform,
            ports=Ports(
                clock=lambda: self._now,
                random=os.urandom,
                send=lambda silo, message: self._mail[silo].append(message),
                ask=lambda witness, message: None,
                wake=lambda: None,
                event=lambda line: None,
            ),
            threads=1,
        )

    def _silo(self, name: str, seed: int) -> "_Member":
        identity = _identity(name, seed)
        files: Store = MemoryStore() if self._folder is None else DirectoryStore(self._folder / "silos" / name)
        machine = SiloMachine(
            agreement=self.agreement,
            silo=name,
            identity=identity,
            platform=self._platform if self.agreement.silo(name).needs_evidence else None,
            state=SiloState.open(files, agreement=self.agreement.digest, silo=name),
            clock=lambda: self._now,
            random=os.urandom,
        )
        channel = MemoryChannel(name, self.enclave, self.store, self._mail[name], self._is_dropped)
        courier = Courier(
            machine=machine, channel=channel, observer=Silent(), clock=lambda: self._now, background=False
        )
        form = BodyFormat(agreement=self.agreement, layout=self.layout, silo=name, identity=identity, random=os.urandom)
        silo = Silo(
            machine=machine,
            courier=courier,
            form=form,
            observer=Silent(),
            models=KeptModels(
                state=machine.state,
                layout=self.layout,
                agreed=self.agreement.model.initial,
                initial=lambda: read_initial_model(self._initial, self.layout, self.agreement.model.initial),
                keeps=False,
            ),
        )
        return _Member(name=name, silo=silo, courier=courier, machine=machine)

    def _is_dropped(self, silo: str) -> bool:
        return silo in self._drops.get(self.enclave.describe().round, ())

    def _history(self, seconds: float) -> History:
        published, abandoned, refused = [], 0, 0
        for data in LogReader(self.store).entries():
            entry = parse_entry(data)
            abandoned += isinstance(entry, RoundAbandoned)
            refused += isinstance(entry, UpdateRefused)
            if isinstance(entry, RoundPublished):
                published.append(entry)
        first = next(iter(self.silos.values())).silo
        if first.finished:
            self._metrics[self.agreement.federation.rounds] = first.final_metrics()
        return History(
            agreement=self.agreement,
            store=self.store,
            rounds=tuple(
                SimulatedRound(
                    number=entry.round,
                    attempt=entry.attempt,
                    cohort=tuple(member.silo for member in entry.cohort),
                    model=entry.model_out,
                    metrics=self._metrics.get(entry.round, {}),
                )
                for entry in published
            ),
            abandoned=abandoned,
            refused=refused,
            state_dict=first.final_state_dict() if first.finished else None,
            seconds=seconds,
        )

    def _stuck(self) -> str:
        described = self.enclave.describe()
        return (
            f"round {described.round}, attempt {described.attempt}: nothing moves any more in phase {described.phase}; "
            f"expected a cohort that reaches the agreement's minimum of {self.agreement.federation.minimum_cohort} "
            "owners: look at participation and drops"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    silo: Silo
    courier: Courier
    machine: SiloMachine


@dataclass(slots=True)
class MemoryChannel:
    """A silo's way to an enclave in the same process: no sockets, the same messages."""

    silo: str
    enclave: Enclave
    store: Store
    mail: deque[bytes]
    is_dropped: Callable[[str], bool] = field(default=lambda silo: False)

    def hello(self, message: bytes) -> bytes:
        """`Hello` → `Welcome`."""
        return self.enclave.hello(message)

    def enrol(self, message: bytes) -> bytes:
        """`Enrol` → `Admitted`."""
        return self.enclave.enrol(message)

    def connect(self, credential: Credential) -> None:
        """Begin a session."""
        self.enclave.left(self.silo)
        self.mail.clear()

    def send(self, message: bytes) -> None:
        """One message to the enclave."""
        self.enclave.receive(self.silo, message)
        self.enclave.tick()

    def receive(self, timeout_seconds: float | None) -> bytes | None:
        """The next message of the enclave, or None if there is none."""
        return self.mail.popleft() if self.mail else None

    def download(self, name: str, *, limit_bytes: int) -> ByteSource:
        """A sealed body."""
        return self.store.open(f"models/{name}.blob")

    def upload(self, upload_id: bytes, blob: ByteSource) -> bytes:
        """Hand in a sealed body, unless the simulation loses it."""
        if self.is_dropped(self.silo):
            raise refuse(
                RefusalCode.ROUND_CLOSED,
                expected="an upload that arrives",
                found="one that the simulation was told to lose",
                remedy="wait for the next announcement",
            )
        return self.enclave.complete(self.silo, blob)

    def close(self) -> None:
        """End the session."""
        self.enclave.left(self.silo)


def twin_of(agreement: Agreement, measurement: bytes, seed: int) -> Agreement:
    """The same terms under simulated TEEs (with this 48-byte measurement) and identity keys made from `seed`."""
    tee = simulated_reference_values(measurement)
    origin = SIMULATED_PREFIX + agreement.log.origin.removeprefix(SIMULATED_PREFIX)
    text = render_agreement(
        federation=agreement.federation,
        model=agreement.model,
        training=agreement.training,
        update=agreement.update,
        privacy=agreement.privacy,
        log=replace(agreement.log, origin=origin, witnesses=(), required_witnesses=0),
        appliance=(tee,),
        silos=[
            render_silo(
                name=silo.name,
                owner=silo.owner,
                jurisdiction=silo.jurisdiction,
                identity=_identity(silo.name, seed).public,
                weight=silo.weight,
                tees=(tee if silo.needs_evidence else None,),
            )
            for silo in agreement.silos
        ],
    )
    return Agreement.parse(text.encode(), "the simulated federation.toml")


def _identity(name: str, seed: int) -> SigningKey:
    return SigningKey(labelled_digest("strongroom/simulated-identity/v1", str(seed).encode(), name.encode()))


def _by_round(cohorts: Cohorts | None) -> dict[int, frozenset[str]]:
    if cohorts is None:
        return {}
    pairs = cohorts.items() if isinstance(cohorts, Mapping) else enumerate(cohorts, start=1)
    return {number: frozenset(names) for number, names in pairs}


def _path(store: str | os.PathLike[str] | None) -> Path | None:
    return None if store is None else Path(store)
