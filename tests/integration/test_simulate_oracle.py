"""`simulate` against a plain NumPy reading of the papers' boxes: SCAFFOLD, FedAvg, FedProx.

The oracle knows nothing of this project: dense float64 vectors, least-squares objectives, full gradients. What is
compared is the whole trajectory of the server's model, to 1e-5 of the distance travelled (float32 on the wire).
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated import flat, terms, write_federation

import strongroom
from silo_client.rounds import Round

torch.set_num_threads(1)
RNG = np.random.default_rng


@dataclass
class Problem:
    """Silo i minimises ½|A_i w − b_i|²/rows; the model is one linear layer, so that torch does its own arithmetic."""

    features: list[np.ndarray]
    targets: list[np.ndarray]

    @classmethod
    def random(cls, seed: int, silos: int, dimension: int) -> "Problem":
        rng = RNG(seed)
        features = [rng.normal(size=(int(rng.integers(3, 9)), dimension)) / np.sqrt(dimension) for _ in range(silos)]
        return cls(features, [rng.normal(size=(len(rows), 1)) + 2 * i for i, rows in enumerate(features)])

    def gradient(self, silo: int, w: np.ndarray) -> np.ndarray:
        rows, target = self.features[silo], self.targets[silo]
        return (rows.T @ (rows @ w[:, None] - target) / len(rows))[:, 0]


def module(dimension: int) -> torch.nn.Module:
    torch.manual_seed(dimension)
    return torch.nn.Linear(dimension, 1, bias=False)


@dataclass
class Oracle:
    """The boxes, in float64, for the cohorts that took part and the uploads that arrived."""

    problem: Problem
    strategy: str
    weights: list[float]
    eta: float
    server_eta: float
    steps: int
    mu: float = 0.0

    def run(self, x: np.ndarray, cohorts: list[list[int]]) -> list[np.ndarray]:
        silos, dimension = len(self.weights), len(x)
        c, c_i = np.zeros(dimension), [np.zeros(dimension) for _ in range(silos)]
        shares = np.array(self.weights) / sum(self.weights)
        path = [x]
        for cohort in cohorts:
            delta_x, delta_c, weight = np.zeros(dimension), np.zeros(dimension), sum(self.weights[i] for i in cohort)
            for i in cohort:
                y = x.copy()
                for _ in range(self.steps):
                    gradient = self.problem.gradient(i, y)
                    if self.strategy == "scaffold":
                        gradient = gradient - c_i[i] + c
                    elif self.strategy == "fedprox":
                        gradient = gradient + self.mu * (y - x)
                    y = y - self.eta * gradient
                delta_x += self.weights[i] * (y - x) / weight
                if self.strategy == "scaffold":
                    plus = c_i[i] - c + (x - y) / (self.steps * self.eta)
                    delta_c += shares[i] * (plus - c_i[i])
                    c_i[i] = plus
            x, c = x + self.server_eta * delta_x, c + delta_c
            path.append(x)
        return path


class Recorder:
    """The silos' tasks, which also note the model that every round begins with."""

    def __init__(self, problem: Problem, dimension: int) -> None:
        self.problem = problem
        self.network = module(dimension)
        self.seen: dict[int, np.ndarray] = {}

    def task(self, silo: int):
        features = torch.tensor(self.problem.features[silo], dtype=torch.float32)
        targets = torch.tensor(self.problem.targets[silo], dtype=torch.float32)

        def train(round: Round) -> None:
            self.network.load_state_dict(round.state_dict())
            self.seen[round.number] = flat(round.state_dict())
            optimizer = round.local_optimizer(torch.optim.SGD(self.network.parameters(), lr=round.learning_rate))
            for _ in range(round.local_steps):
                optimizer.zero_grad()
                loss = ((self.network(features) - targets) ** 2).sum() / (2 * len(features))
                loss.backward()
                optimizer.step()
            round.submit(self.network, metrics={"loss": loss})

        return train


CASES = [
    pytest.param(strategy, seed, id=f"{strategy}-{seed}")
    for strategy in ("scaffold", "fedavg", "fedprox")
    for seed in (1, 2)
]


@pytest.mark.parametrize(("strategy", "seed"), CASES)
def test_the_trajectory_is_the_papers(strategy: str, seed: int, tmp_path: Path) -> None:
    rng = RNG(seed)
    silos, rounds, dimension = 5, 8, int(rng.integers(2, 60))
    weights = [float(weight) for weight in rng.integers(1, 4, size=silos)]
    steps, eta, server_eta = int(rng.integers(1, 7)), 0.11, float(rng.choice([1.0, 0.7, 1.3]))
    problem, names = Problem.random(seed, silos, dimension), [f"silo-{i}" for i in range(silos)]
    cohorts = [sorted(rng.choice(silos, size=int(rng.integers(3, 6)), replace=False).tolist()) for _ in range(rounds)]
    lost = [cohort[:1] if len(cohort) > 3 and rng.random() < 0.5 else [] for cohort in cohorts]
    replace = terms(rounds=rounds, steps=steps, eta=eta, strategy=strategy, server_eta=server_eta)
    owners = tuple(f"owner-{i}" for i in range(silos))
    file = write_federation(
        tmp_path, module(dimension), replace, owners=owners, weights=tuple(str(weight) for weight in weights)
    )
    recorder = Recorder(problem, dimension)
    tasks = {name: recorder.task(i) for i, name in enumerate(names)}
    arguments = {
        "participation": [[names[i] for i in cohort] for cohort in cohorts],
        "drops": [[names[i] for i in each] for each in lost],
    }
    # Stopped after three rounds and taken up again from its store, as after a restart of every process.
    strongroom.simulate(file, tasks, **arguments, store=tmp_path / "store", rounds=3)
    history = strongroom.simulate(file, tasks, **arguments, store=tmp_path / "store")
    arrived = [[i for i in cohort if i not in each] for cohort, each in zip(cohorts, lost, strict=True)]
    assert [each.cohort for each in history.rounds] == [tuple(names[i] for i in cohort) for cohort in arrived]
    oracle = Oracle(problem, strategy, weights, eta, server_eta, steps, mu=0.3)
    path = oracle.run(flat(module(dimension).state_dict()), arrived)
    found = [recorder.seen[number] for number in range(1, rounds + 1)]
    assert history.state_dict is not None
    found.append(flat(history.state_dict))
    for number, (ours, theirs) in enumerate(zip(found, path, strict=True)):
        travelled = sum(float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(path[: number + 1]))
        assert np.linalg.norm(ours - theirs) <= 1e-5 * max(travelled, 1e-3), f"round {number}"
