"""A federation of processes that has no rest: in every round something happens, drawn from a seed.

    all       everybody trains and submits
    skip      a silo's script sits the round out
    lose      a silo's upload does not arrive before the deadline
    absent    a silo is killed in training, and started again after the round
    enclave, gateway    killed while some updates are in
    stop, crash         the operator stops the appliance (SIGTERM) or it dies (SIGKILL); started again

What the cohorts come to depends on who is back in time; the log says it, and the oracle follows the log.
"""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from fates import Fates
from least_squares_oracle import TASK, Oracle, Result, Rows, check_path, cohorts, final_model, own_control, resets
from process_federation import Ports, ProcessFederation, Running, exit_codes, federation, wait_until
from valves import Valve

import strongroom
from audit.store import DirectoryStore
from protocol.agreement import Agreement
from silo_client.rounds import Round
from silo_client.state import SiloState
from strongroom.simulation import History

OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
WEIGHTS = (1.0, 2.0, 1.0, 3.0)
DIMENSION, STEPS, ETA, SERVER_ETA, MU = 17, 4, 0.11, 0.9, 0.3
EVENTS = ("all", "skip", "lose", "absent", "enclave", "gateway", "stop", "crash")


@dataclass(frozen=True)
class Restless:
    """What such a federation came to. `missing`: who can't be in a round's cohort."""

    made: ProcessFederation
    rows: Sequence[Rows]
    initial: np.ndarray
    strategy: str
    played: Sequence[str]
    missing: Mapping[int, str]
    exit_codes: Mapping[str, int]

    def check(self) -> None:
        """All rounds are published, the audit passes, nothing is lost, and everybody's numbers are the oracle's."""
        made = self.made
        assert made.published() == list(range(1, len(self.played) + 1))
        assert self.exit_codes == dict.fromkeys(made.names, 0)
        verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml")
        assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")
        fates = Fates.of(made.log(), [(run.name, run.events) for run in made.runs if run.name in made.names])
        assert fates.losses == []
        assert not fates.refused
        expected = self.oracle()
        assert expected.travelled > 1
        for i, name in enumerate(made.names):
            assert check_path(made, name, expected) > 0
            expected.check_model(final_model(made, name))
            if self.strategy == "scaffold":
                expected.check_control(i, own_control(made, name))
        assert resets(made) == []
        for number, name in self.missing.items():
            assert made.names.index(name) not in cohorts(made)[number - 1]

    def simulated(self, folder: Path) -> History:
        """The same federation in one process, where nothing ever happens, with the cohorts that this one came to."""
        tasks = {name: _task(rows) for name, rows in zip(self.made.names, self.rows, strict=True)}
        participation = [[self.made.names[i] for i in cohort] for cohort in cohorts(self.made)]
        return strongroom.simulate(
            self.made.folder / "federation.toml", tasks, participation=participation, store=folder
        )

    def oracle(self) -> Result:
        """The papers' boxes for the log's cohorts."""
        terms = Oracle(
            rows=self.rows,
            weights=WEIGHTS,
            steps=STEPS,
            eta=ETA,
            server_eta=SERVER_ETA,
            strategy=self.strategy,
            mu=MU if self.strategy == "fedprox" else 0.0,
        )
        return terms.run(self.initial, cohorts(self.made))


@contextmanager
def restless(strategy: str, seed: int, played: Sequence[str], *, deadline_seconds: int = 4) -> Iterator[Restless]:
    """Play one event a round; `seed` draws the silos that they happen to."""
    torch.manual_seed(seed)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    replace = {
        '"scaffold"': f'"{strategy}"' + (f"\nproximal_mu = {MU}" if strategy == "fedprox" else ""),
        "rounds = 40": f"rounds = {len(played)}",
        "round_deadline_seconds = 60": f"round_deadline_seconds = {deadline_seconds}",
        "local_steps = 10": f"local_steps = {STEPS}",
        "learning_rate = 0.1\n": f"learning_rate = {ETA}\n",
        "server_learning_rate = 1\n": f"server_learning_rate = {SERVER_ETA}\n",
    }
    weights = tuple(map(str, WEIGHTS))
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS, weights=weights) as made:
        rows = [Rows.random(seed + i, DIMENSION) for i in range(len(OWNERS))]
        for name, each in zip(made.names, rows, strict=True):
            each.write(made.folder / name)
        initial = network.weight.detach().double().numpy().ravel()
        players = _Players(made, Random(seed))
        try:
            for number, event in enumerate(played, 1):
                players.play(number, event)
            codes = exit_codes(list(players.silos.values()))
        finally:
            players.end()
        yield Restless(made, rows, initial, strategy, played, players.missing, codes)


def _task(rows: Rows) -> Callable[[Round], None]:
    """What `e2e/least_squares.py` does with a round, operation by operation."""
    features, targets = torch.tensor(rows.features.tolist()), torch.tensor(rows.targets.tolist())
    model = torch.nn.Linear(DIMENSION, 1, bias=False)

    def train(round: Round) -> None:
        model.load_state_dict(round.state_dict())
        optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
        for _ in range(round.local_steps):
            optimizer.zero_grad()
            loss = ((model(features)[:, 0] - targets) ** 2).sum() / (2 * len(features))
            loss.backward()
            optimizer.step()
        round.submit(model, metrics={"loss": loss})

    return train


def control_bytes(folder: Path, agreement: Agreement, silo: str) -> bytes:
    """c_i as it lies in a silo's state folder."""
    files = DirectoryStore(folder)
    state = SiloState.read_only(files, agreement=agreement.digest, silo=silo)
    out = bytearray(4 * DIMENSION)
    state.read_control(memoryview(out))
    files.close()
    return bytes(out)


class _Players:
    def __init__(self, made: ProcessFederation, rng: Random) -> None:
        self._made = made
        self._rng = rng
        made.gate(0)
        self._appliance = made.start_appliance()
        self._valves = {name: Valve(made.ports.federation) for name in made.names}
        for name, valve in self._valves.items():
            made.write_silo(name, Ports(enrolment=made.ports.enrolment, federation=valve.port))
        self.silos: dict[str, Running] = {name: made.start_silo(name) for name in made.names}
        self.missing: dict[int, str] = {}

    def end(self) -> None:
        for valve in self._valves.values():
            valve.end()

    def play(self, number: int, event: str) -> None:
        """One round in which this happens."""
        made, victim = self._made, self._rng.choice(self._made.names)
        if event in ("lose", "absent", "skip"):
            self.missing[number] = victim
        if event == "lose":
            self._in_training(number, victim)
            with self._valves[victim].closed(up=0):
                self._publish(number)
            return
        if event == "absent":
            self._in_training(number, victim)
            self.silos[victim].kill()
            self._publish(number)
            self.silos[victim] = made.start_silo(victim)
            return
        if event == "skip":
            (made.folder / victim / "skips").write_text(json.dumps([number]))
        elif event != "all":
            self._strike(number, event)
        self._publish(number)

    def _publish(self, number: int) -> None:
        self._made.gate(number)
        self._made.wait_published(number)

    def _in_training(self, number: int, name: str) -> None:
        """Wait until a silo has trained for the round, or everybody else has published it."""
        self._wait_for(number, "round", [name])

    def _strike(self, number: int, event: str) -> None:
        """Kill or stop somebody once some updates are in."""
        made, some = self._made, self._rng.sample(self._made.names, self._rng.randrange(4))
        made.gate(number, *some)
        self._wait_for(number, "submitted", some)
        said = len(self._appliance.events)
        if event in ("enclave", "gateway"):
            made.kill_child(event)
            made.ready = self._appliance.wait_for("ready", since=said)
            return
        self._appliance.signal(signal.SIGTERM if event == "stop" else signal.SIGKILL)
        self._appliance.exit_code()
        self._appliance = made.start_appliance()

    def _wait_for(self, number: int, kind: str, names: Sequence[str]) -> None:
        def all_have() -> bool:
            wanted = {"event": kind, "round": number}.items()
            told = [any(wanted <= event.items() for event in list(self.silos[name].events)) for name in names]
            return all(told) or number in self._made.published()

        wait_until(all_have, f"{kind} of {', '.join(names)}")
