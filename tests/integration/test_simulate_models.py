"""`simulate` with models and objectives that have made other implementations fail (research of §9's traps)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated import flat, terms, write_federation
from torch import nn

import strongroom
from silo_client.rounds import Round

torch.set_num_threads(1)
SILOS = 8
OWNERS = tuple(f"owner-{i}" for i in range(SILOS))


class Point(nn.Module):
    """A model that is one vector."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dimension))


def quadratics(dimension: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    """½(w − b)ᵀA(w − b) for each silo, with very different A and b."""
    rng = np.random.default_rng(7)
    problems = []
    for _ in range(SILOS):
        basis, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        problems.append((basis @ np.diag(rng.uniform(0.1, 2.0, dimension)) @ basis.T, rng.normal(size=dimension) * 3))
    return problems


def optimum(problems: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.linalg.solve(sum(a for a, _ in problems), sum(a @ b for a, b in problems))


def fedavg_fixed_point(problems: list[tuple[np.ndarray, np.ndarray]], eta: float, steps: int) -> np.ndarray:
    """Where FedAvg stops: Σ (I − (I − ηA_i)^K)(w − b_i) = 0."""
    moves = [np.eye(len(b)) - np.linalg.matrix_power(np.eye(len(b)) - eta * a, steps) for a, b in problems]
    return np.linalg.solve(sum(moves), sum(move @ b for move, (_, b) in zip(moves, problems, strict=True)))


def descend(problem: tuple[np.ndarray, np.ndarray]) -> Callable[[Round], None]:
    a, b = (torch.tensor(part, dtype=torch.float32) for part in problem)

    def train(round: Round) -> None:
        model = Point(len(b))
        model.load_state_dict(round.state_dict())
        optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
        for _ in range(round.local_steps):
            optimizer.zero_grad()
            (0.5 * (model.w - b) @ a @ (model.w - b)).backward()
            optimizer.step()
        round.submit(model)

    return train


def final(folder: Path, strategy: str, *, rounds: int, participation: list[list[str]] | None = None) -> np.ndarray:
    problems = quadratics()
    replace = terms(rounds=rounds, steps=20, eta=0.2, strategy=strategy)
    file = write_federation(folder, Point(6), replace, owners=OWNERS)
    tasks = {f"silo-{i}": descend(problem) for i, problem in enumerate(problems)}
    history = strongroom.simulate(file, tasks, participation=participation)
    assert history.state_dict is not None
    return flat(history.state_dict)


def relative_distance(found: np.ndarray) -> float:
    best = optimum(quadratics())
    return float(np.linalg.norm(found - best) / np.linalg.norm(best))


def test_fedavg_stops_short_where_its_closed_form_says(tmp_path: Path) -> None:
    found = final(tmp_path, "fedavg", rounds=20)
    closed = fedavg_fixed_point(quadratics(), eta=0.2, steps=20)
    np.testing.assert_allclose(found, closed, rtol=1e-4, atol=1e-4)
    assert relative_distance(closed) > 0.1


def test_scaffold_goes_on_where_fedavg_stops(tmp_path: Path) -> None:
    assert relative_distance(final(tmp_path, "scaffold", rounds=30)) < 2e-3


@pytest.mark.slow
def test_scaffold_reaches_the_optimum(tmp_path: Path) -> None:
    assert relative_distance(final(tmp_path, "scaffold", rounds=80)) < 1e-6


@pytest.mark.slow
def test_scaffold_reaches_it_with_three_silos_of_eight_a_round(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    chosen = [[f"silo-{i}" for i in rng.choice(SILOS, size=3, replace=False)] for _ in range(150)]
    assert relative_distance(final(tmp_path, "scaffold", rounds=150, participation=chosen)) < 1e-3


class Mixed(nn.Module):
    """Everything at once: batch norm, a frozen layer, tied weights, half precision, a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.narrow = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.second(torch.tanh(self.first(self.norm(self.frozen(x)))))
        return (hidden * self.scale * self.narrow.float()).sum(dim=1)


@pytest.mark.parametrize("strategy", ["scaffold", "fedavg", "fedprox"])
def test_buffers_frozen_layers_and_tied_weights_follow_their_rules(strategy: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = Mixed()
    replace = terms(rounds=3, steps=5, eta=0.05, strategy=strategy)
    file = write_federation(tmp_path, first, replace, owners=OWNERS[:3])
    batches: dict[str, list[int]] = {}
    seen: dict[str, dict[str, torch.Tensor]] = {}

    def task(index: int) -> Callable[[Round], None]:
        def train(round: Round) -> None:
            model = Mixed()
            model.load_state_dict(round.state_dict())
            before = int(model.norm.num_batches_tracked)
            optimizer = round.local_optimizer(
                torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=round.learning_rate)
            )
            steps = index + 3
            for step in range(steps):
                torch.manual_seed(100 * index + step)
                optimizer.zero_grad()
                (model(torch.randn(6, 4) + index) - 1).square().mean().backward()
                optimizer.step()
            batches.setdefault(f"silo-{index}", []).append(before)
            seen[f"silo-{index}"] = {name: value.clone() for name, value in model.state_dict().items()}
            round.submit(model)

        return train

    history = strongroom.simulate(file, {f"silo-{i}": task(i) for i in range(3)})
    state = dict(history.state_dict or {})
    assert state.keys() == first.state_dict().keys()
    assert {name: value.dtype for name, value in state.items()} == {
        name: value.dtype for name, value in first.state_dict().items()
    }
    torch.testing.assert_close(state["frozen.weight"], first.frozen.weight, rtol=0, atol=0)
    torch.testing.assert_close(state["first.weight"], state["second.weight"], rtol=0, atol=0)
    assert not torch.equal(state["first.weight"], first.first.weight)
    # The integer buffer is the largest of the silos', the float ones are their mean.
    assert batches["silo-0"] == [0, 5, 10]
    assert int(state["norm.num_batches_tracked"]) == 15
    means = torch.stack([each["norm.running_mean"] for each in seen.values()]).mean(dim=0)
    torch.testing.assert_close(state["norm.running_mean"], means, rtol=1e-6, atol=1e-6)
