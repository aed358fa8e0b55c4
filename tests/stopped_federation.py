"""A federation of four that stands still in round 4, and scenes that go on from there, each with its own operator.

A scene has a copy of the store, of every silo's state, and of the gate up to which they train. What it costs is the
enclave's start: silos' processes are forked, and what they were given (`noting_models.py`) is on their disks.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from hostile_operator import Enclave, Gateway, Operator, copied, hostile_operator
from nursery import nursery
from process_federation import Ports, ProcessFederation, Running, federation
from switched_line import Line

TASK = Path(__file__).parent / "e2e" / "noting_models.py"
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
ALL = ("silo-0", "silo-1", "silo-2", "silo-3")


@dataclass(frozen=True)
class Given:
    """A model that a silo's training script was given: by round, attempt and values."""

    silo: str
    round: int
    attempt: int
    weights: tuple[float, ...]


class Scene:
    """One way in which it goes on."""

    def __init__(self, stopped: "Stopped", name: str) -> None:
        self.federation, self.operator, self.name = stopped.federation, stopped.operator, name
        self.store = copied(stopped.store, name)
        self.lines: dict[str, Line] = {}
        self._runs: list[Running] = []
        for silo in ALL:
            folder = self.federation.folder / silo
            shutil.copytree(folder / "state", folder / name)
            shutil.copy(folder / "state.jsonl", folder / f"{name}.jsonl")
        self.gate(3)

    def boot(self, store: Path | None = None, *, beside: bool = False) -> Enclave:
        """Start an enclave: on the scene's store, unless told. `beside`: one runs there already."""
        return self.operator.boot(store or self.store, beside=beside)

    def copy(self, name: str) -> Path:
        """Another copy of the store, while nobody writes to it."""
        return copied(self.store, name)

    def line(self, silo: str, gateway: Gateway) -> Running:
        """Start a silo, whose way to the appliance the operator leads to this gateway, until he leads it elsewhere."""
        self.lines[silo] = self.operator.line()
        self.lines[silo].lead_to(gateway.ports)
        return self.start(silo, self.lines[silo].ports)

    def start(self, silo: str, ports: Ports) -> Running:
        """Start a silo."""
        made, folder = self.federation, self.federation.folder / silo
        made.write_silo(silo, ports, file=f"{self.name}.toml", state=self.name)
        arguments = (folder, self.gate_file(silo), folder / f"{self.name}.jsonl")
        config = folder / f"{self.name}.toml"
        self._runs.append(made.run(silo, "silo", "train", "--json", "--config", config, TASK, *arguments))
        return self._runs[-1]

    def start_all(self, gateway: Gateway) -> dict[str, Running]:
        """Start all silos."""
        return {silo: self.start(silo, gateway.ports) for silo in ALL}

    def gate_file(self, silo: str) -> Path:
        return self.federation.folder / silo / f"{self.name}.gate"

    def gate(self, last_round: int, *silos: str) -> None:
        """Let silos (all, unless named) submit up to this round."""
        for silo in silos or ALL:
            unfinished = self.gate_file(silo).with_suffix(".new")
            unfinished.write_text(str(last_round))
            unfinished.replace(self.gate_file(silo))

    def given(self, silo: str) -> list[Given]:
        """What a silo was given, since round 1."""
        file = self.federation.folder / silo / f"{self.name}.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [Given(silo, number, attempt, tuple(weights)) for number, attempt, weights in lines]

    def models(self) -> dict[int, set[tuple[float, ...]]]:
        """All models that anybody was given, by round."""
        found: dict[int, set[tuple[float, ...]]] = {}
        for silo in ALL:
            for given in self.given(silo):
                found.setdefault(given.round, set()).add(given.weights)
        return found

    def check_one_model_a_round(self) -> None:
        """Whatever was tried, and however often: all silos together have one model for each round."""
        assert [len(models) for models in self.models().values()] == [1] * len(self.models())

    def end(self) -> None:
        """End its silos."""
        for run in self._runs:
            run.kill()


@dataclass
class Stopped:
    """The federation: three rounds are published, the fourth was open, nobody runs."""

    federation: ProcessFederation
    operator: Operator
    store: Path
    round_before: Path
    """The store as it was while round 3 was open."""

    @contextmanager
    def scene(self, name: str) -> Iterator[Scene]:
        """A scene, whose processes are gone afterwards."""
        scene = Scene(self, name)
        try:
            yield scene
        finally:
            scene.end()
            self.operator.end()


@contextmanager
def stopped_federation() -> Iterator[Stopped]:
    """Bring it there; everything is gone afterwards."""
    torch.manual_seed(9)
    nursery()
    replaced = {
        "enrolment_deadline_seconds = 600": "enrolment_deadline_seconds = 1",
        "round_deadline_seconds = 60": "round_deadline_seconds = 3000",
    }
    network = torch.nn.Linear(9, 1, bias=False)
    with (
        federation(network=network, task=TASK, replace=replaced, owners=OWNERS) as made,
        hostile_operator(made) as operator,
    ):
        yield _story(made, operator)


def _story(made: ProcessFederation, operator: Operator) -> Stopped:
    made.gate(0)
    enclave = operator.boot(made.store).started()
    gateway = operator.gateway(enclave)
    silos = []
    for name in made.names:
        made.write_silo(name, gateway.ports)
        folder = made.folder / name
        silos.append(
            made.run(name, "silo", "train", "--json", made.task, folder, folder / "gate", folder / "state.jsonl")
        )
    for silo in silos:
        silo.wait_for("round", round=1)
    made.gate(2)
    for silo in silos:
        silo.wait_for("round", round=3)
    round_before = enclave.copied("round-before")
    made.gate(3)
    for silo in silos:
        silo.wait_for("round", round=4)
        silo.kill()
    enclave.stop()
    operator.end()
    return Stopped(federation=made, operator=operator, store=made.store, round_before=round_before)
