"""Strategies as functions of one chunk, against their equations in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.enclave.buffers import Scratch
from appliance.enclave.strategies import Cohort, Strategy, strategy_for
from appliance.enclave.strategies.mean import maximum_into, weighted_mean_into
from protocol import agreement_terms
from protocol.agreement_terms import Training

SIZES = st.integers(1, 300)


def training(strategy: str, server_learning_rate: float = 1.0) -> Training:
    return Training(
        strategy=agreement_terms.Strategy(strategy),
        local_steps=10,
        learning_rate=0.1,
        server_learning_rate=server_learning_rate,
        proximal_mu=1.0 if strategy == "fedprox" else None,
    )


def combined(strategy: Strategy, case: "Case") -> tuple[np.ndarray, np.ndarray]:
    model, control = torch.from_numpy(case.model.copy()), torch.from_numpy(case.control.copy())
    updates = [torch.from_numpy(update) for update in case.updates]
    scratch = Scratch(case.model.size + 5)
    strategy.combine(model, control if strategy.has_control else None, updates, case.cohort, scratch)
    return model.numpy(), control.numpy()


class Case:
    """Random inputs of one chunk."""

    def __init__(self, seed: int, size: int, silos: int, *, uniform: bool = False) -> None:
        random = np.random.default_rng(seed)
        self.model, self.control, *self.updates = (
            random.normal(0, 1, size).astype(np.float32) for _ in range(silos + 2)
        )
        self.weights = np.ones(silos) if uniform else random.uniform(0.1, 10, silos)
        self.step_sizes = np.ones(silos) if uniform else random.choice([0.5, 1.0, 0.9], silos)
        self.cohort = Cohort(
            weights=tuple(self.weights.tolist()),
            step_size_sums=tuple(self.step_sizes.tolist()),
            total_weight=float(self.weights.sum()) * 1.7,
        )

    @property
    def q(self) -> np.ndarray:
        return np.array(self.updates, np.float64)


@given(seed=st.integers(0, 2**32 - 1), size=SIZES, silos=st.integers(1, 7), rate=st.sampled_from([1.0, 0.3]))
@settings(max_examples=60, deadline=None)
def test_scaffold(seed: int, size: int, silos: int, rate: float) -> None:
    case = Case(seed, size, silos)
    model, control = combined(strategy_for(training("scaffold", rate)), case)
    x, c, w, eta = case.model.astype(np.float64), case.control.astype(np.float64), case.weights, case.step_sizes
    moved = -((w * eta)[:, None] * (case.q + c)).sum(0) / w.sum()
    assert np.allclose(model, x + rate * moved, rtol=1e-6, atol=1e-6)
    assert np.allclose(control, c + (w[:, None] * case.q).sum(0) / case.cohort.total_weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
@given(seed=st.integers(0, 2**32 - 1), size=SIZES, silos=st.integers(1, 7), rate=st.sampled_from([1.0, 0.3]))
@settings(max_examples=30, deadline=None)
def test_fedavg_and_fedprox(name: str, seed: int, size: int, silos: int, rate: float) -> None:
    case = Case(seed, size, silos)
    strategy = strategy_for(training(name, rate))
    assert not strategy.has_control
    model, _ = combined(strategy, case)
    mean = (case.weights[:, None] * case.q).sum(0) / case.weights.sum()
    assert np.allclose(model, case.model + rate * mean, rtol=1e-6, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), size=SIZES, silos=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_float_buffers_take_the_mean(seed: int, size: int, silos: int) -> None:
    case = Case(seed, size, silos)
    out = torch.full((size,), float("nan"))
    total, term, _ = Scratch(size).take(size)
    weighted_mean_into(out, [torch.from_numpy(update) for update in case.updates], case.cohort, total, term)
    assert np.allclose(out, (case.weights[:, None] * case.q).sum(0) / case.weights.sum(), rtol=1e-6, atol=1e-6)


def test_integer_buffers_take_the_maximum_exactly() -> None:
    out = torch.zeros(3, dtype=torch.int64)
    values = [[2**53 + 1, -5, -(2**63)], [2**53, -6, 2**63 - 1], [7, -7, 0]]
    maximum_into(out, [torch.tensor(row) for row in values])
    assert out.tolist() == [2**53 + 1, -5, 2**63 - 1]


def test_sums_are_taken_in_float64() -> None:
    """Ten million and a tenth, many times: float32 would lose the tenth."""
    updates = [torch.tensor([1e7]), *(torch.tensor([0.1]) for _ in range(100)), torch.tensor([-1e7])]
    cohort = Cohort(weights=(1.0,) * 102, step_size_sums=(1.0,) * 102, total_weight=102.0)
    model = torch.zeros(1)
    strategy_for(training("fedavg", 102.0)).combine(model, None, updates, cohort, Scratch(1))
    assert model.item() == pytest.approx(10.0, rel=1e-6)


def test_the_short_way_for_full_schedules_gives_the_long_ways_result() -> None:
    """All silos at the same Σ η, and one that stopped a hair earlier, move x by nearly the same."""
    case = Case(3, 200, 4, uniform=True)
    same, _ = combined(strategy_for(training("scaffold")), case)
    case.cohort = Cohort(
        weights=case.cohort.weights, step_size_sums=(1.0, 1.0 - 1e-12, 1.0, 1.0), total_weight=case.cohort.total_weight
    )
    nearly, _ = combined(strategy_for(training("scaffold")), case)
    assert np.allclose(same, nearly, rtol=0, atol=1e-6)


def test_scaffold_without_control_is_a_mistake() -> None:
    strategy = strategy_for(training("scaffold"))
    cohort = Cohort(weights=(1.0,), step_size_sums=(1.0,), total_weight=1.0)
    with pytest.raises(ValueError, match="found none"):
        strategy.combine(torch.zeros(1), None, [torch.zeros(1)], cohort, Scratch(1))


@pytest.mark.parametrize(
    "scalars",
    [
        {"weights": (), "step_size_sums": (), "total_weight": 1.0},
        {"weights": (1.0,), "step_size_sums": (), "total_weight": 1.0},
        {"weights": (0.0,), "step_size_sums": (1.0,), "total_weight": 1.0},
        {"weights": (1.0,), "step_size_sums": (0.0,), "total_weight": 1.0},
        {"weights": (1.0,), "step_size_sums": (float("inf"),), "total_weight": 1.0},
        {"weights": (float("nan"),), "step_size_sums": (1.0,), "total_weight": 1.0},
        {"weights": (1.0,), "step_size_sums": (1.0,), "total_weight": -1.0},
    ],
)
def test_a_cohort_of_nonsense_is_a_mistake(scalars: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cohort"):
        Cohort(**scalars)


@pytest.mark.parametrize("strategy", list(agreement_terms.Strategy))
def test_every_strategy_of_the_agreement_exists(strategy: agreement_terms.Strategy) -> None:
    assert strategy_for(training(strategy.value)).has_control == (strategy.value == "scaffold")
