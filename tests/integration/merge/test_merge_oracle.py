"""Federations through sealing, inspection and merge, against the papers' boxes read in plain NumPy (float64).

The silos' objectives are F_i(y) = ½ Σ a_i (y − b_i)², diagonal quadratics: the gradient is exact, and so are the boxes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.layout import Section

ROUNDS = 6


@dataclass
class Silo:
    """One silo's objective, and its control variate in both worlds."""

    curvature: np.ndarray
    centre: np.ndarray
    control: np.ndarray = field(init=False)
    paper_control: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.control = np.zeros(self.centre.size, np.float32)
        self.paper_control = np.zeros(self.centre.size)

    def gradient(self, y: np.ndarray) -> np.ndarray:
        return self.curvature * (y - self.centre)


def silos_of(names: list[str], size: int, seed: int) -> dict[str, Silo]:
    random = np.random.default_rng(seed)
    return {name: Silo(curvature=random.uniform(0.2, 1.8, size), centre=random.normal(0, 2, size)) for name in names}


def one_vector(silo: Silo, x: np.ndarray, c: np.ndarray, etas: list[float]) -> np.ndarray:
    """Our silo: q_i = c_i⁺ − c_i as float32, from the raw gradients of the corrected walk."""
    y, gradients = x.astype(np.float64), np.zeros(x.size)
    for eta in etas:
        gradient = silo.gradient(y)
        gradients += eta * gradient
        y = y - eta * (gradient - silo.control + c)
    return (gradients / sum(etas) - silo.control).astype(np.float32)


def paper_round(
    silos: dict[str, Silo],
    weights: dict[str, float],
    x: np.ndarray,
    c: np.ndarray,
    schedules: dict[str, list[float]],
    server_rate: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of Karimireddy et al. 2020 with option II, two vectors up, weighted means for its plain ones."""
    moved, changed = np.zeros(x.size), np.zeros(x.size)
    for name, etas in schedules.items():
        silo, y = silos[name], x.copy()
        for eta in etas:
            y = y - eta * (silo.gradient(y) - silo.paper_control + c)
        plus = silo.paper_control - c + (x - y) / sum(etas)
        moved += weights[name] * (y - x)
        changed += weights[name] * (plus - silo.paper_control)
        silo.paper_control = plus
    present = sum(weights[name] for name in schedules)
    return x + server_rate * moved / present, c + changed / sum(weights.values())


def assert_close(ours: np.ndarray, paper: np.ndarray, start: np.ndarray) -> None:
    distance = np.linalg.norm(paper - start)
    assert np.linalg.norm(ours - paper) <= 1e-5 * distance


@given(
    parameters=st.integers(1, 70),
    chunk=st.integers(1, 40),
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    server_rate=st.sampled_from([1.0, 0.5, 1.3]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_scaffold_is_the_papers_box(
    federate: Any, parameters: int, chunk: int, weights: list[float], server_rate: float, threads: int, seed: int
) -> None:
    federation = federate(weights, parameters=parameters, chunk=chunk, local_steps=7, server_learning_rate=server_rate)
    random = np.random.default_rng(seed)
    silos = silos_of(list(federation.weights), parameters, seed)
    start = random.normal(0, 1, parameters).astype(np.float32)
    federation.start({**federation.zeros(), Section.PARAMETERS: start})
    x, c = start.astype(np.float64), np.zeros(parameters)
    for _ in range(ROUNDS):
        cohort = [name for name in silos if random.random() < 0.6] or [next(iter(silos))]
        schedules = {name: [0.1 * 0.9**k for k in range(random.integers(1, 8))] for name in cohort}
        ours_x, ours_c = federation.x, federation.c
        sent = {name: one_vector(silos[name], ours_x, ours_c, etas) for name, etas in schedules.items()}
        federation.round(
            {
                name: federation.seal_update(
                    name, vector, steps=len(schedules[name]), step_size_sum=sum(schedules[name])
                )
                for name, vector in sent.items()
            },
            threads=threads,
        )
        for name, vector in sent.items():
            silos[name].control = (silos[name].control.astype(np.float64) + vector).astype(np.float32)
        x, c = paper_round(silos, federation.weights, x, c, schedules, server_rate)
        total = sum(federation.weights.values())
        mean = sum(federation.weights[name] / total * silo.control.astype(np.float64) for name, silo in silos.items())
        assert np.allclose(federation.c, mean, rtol=0, atol=1e-5 * (1 + np.abs(mean).max())), "Σ p_i c_i = c"
    assert_close(federation.x, x, start)
    assert np.linalg.norm(federation.c - c) <= 1e-5 * max(np.linalg.norm(c), 1)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
@given(
    parameters=st.integers(1, 70),
    chunk=st.integers(1, 40),
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    server_rate=st.sampled_from([1.0, 0.7]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_fedavg_and_fedprox_are_the_papers_boxes(
    federate: Any, strategy: str, parameters: int, chunk: int, weights: list[float], server_rate: float, seed: int
) -> None:
    """The proximal term is the silo's business: the server's step is one and the same."""
    federation = federate(
        weights, strategy=strategy, parameters=parameters, chunk=chunk, server_learning_rate=server_rate
    )
    mu = 0.1 if strategy == "fedprox" else 0.0
    random = np.random.default_rng(seed)
    silos = silos_of(list(federation.weights), parameters, seed)
    x = start = np.zeros(parameters)
    for _ in range(ROUNDS):
        cohort = [name for name in silos if random.random() < 0.6] or [next(iter(silos))]
        steps = {name: int(random.integers(1, 8)) for name in cohort}

        def walked(origin: np.ndarray, silo: Silo, count: int) -> np.ndarray:
            y = origin.copy()
            for _ in range(count):
                y = y - 0.1 * (silo.gradient(y) + mu * (y - origin))
            return y - origin

        ours = federation.x.astype(np.float64)
        federation.round(
            {
                name: federation.seal_update(name, walked(ours, silos[name], count), steps=count)
                for name, count in steps.items()
            }
        )
        present = sum(federation.weights[name] for name in cohort)
        mean = sum(federation.weights[name] * (x + walked(x, silos[name], steps[name])) for name in cohort) / present
        x = x + server_rate * (mean - x)
    assert_close(federation.x, x, start)
    assert federation.control is None


def test_one_full_batch_step_by_all_is_a_gradient_step(federate: Any) -> None:
    """Property (a): K = 1, full participation: whatever the controls are, x moves as in FedSGD."""
    federation = federate((1.0, 2.0, 3.0), parameters=20)
    silos = silos_of(list(federation.weights), 20, 5)
    x = federation.x.astype(np.float64)
    for _ in range(8):
        sent = {name: one_vector(silo, federation.x, federation.c, [0.1]) for name, silo in silos.items()}
        federation.round({name: federation.seal_update(name, vector, steps=1) for name, vector in sent.items()})
        for name, vector in sent.items():
            silos[name].control += vector
        gradient = sum(federation.weights[name] * silo.gradient(x) for name, silo in silos.items()) / 6
        x = x - 0.1 * gradient
    assert_close(federation.x, x, np.zeros(20))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 3.0, 6.0)])
def test_the_weights_decide_the_optimum(federate: Any, weights: tuple[float, ...]) -> None:
    """Property (d): the fixed point is the weighted optimum, although every silo takes many steps."""
    federation = federate(weights, parameters=6, chunk=6, local_steps=20)
    silos = silos_of(list(federation.weights), 6, 11)
    for _ in range(120):
        sent = {name: one_vector(silo, federation.x, federation.c, [0.1] * 20) for name, silo in silos.items()}
        federation.round({name: federation.seal_update(name, vector, steps=20) for name, vector in sent.items()})
        for name, vector in sent.items():
            silos[name].control += vector
    curvature = sum(w * silo.curvature for w, silo in zip(weights, silos.values(), strict=True))
    optimum = sum(w * silo.curvature * silo.centre for w, silo in zip(weights, silos.values(), strict=True)) / curvature
    assert np.linalg.norm(federation.x - optimum) <= 1e-5 * np.linalg.norm(optimum)


def test_a_silo_that_stays_away_keeps_its_share_of_the_control(federate: Any) -> None:
    """|S|/N of the realised cohort: one of four alone moves c by a quarter of what it sent."""
    federation = federate((1.0,) * 4, parameters=20)
    sent = np.arange(20, dtype=np.float32)
    federation.round({"silo-2": federation.seal_update("silo-2", sent, steps=1)})
    assert np.allclose(federation.c, sent / 4)
    assert np.allclose(federation.x, -0.1 * sent)


def test_buffers_follow_their_rules(federate: Any) -> None:
    federation = federate((1.0, 3.0), strategy="fedavg", parameters=20, float_buffers=11, integer_buffers=9, frozen=10)
    old = {**federation.zeros(), Section.FROZEN: np.linspace(-1, 1, 10).astype(np.float32)}
    old[Section.INTEGER_BUFFERS] = np.full(9, 2**62)
    old[Section.FLOAT_BUFFERS] = np.full(11, 77, np.float32)
    federation.start(old)
    random = np.random.default_rng(0)
    means = [random.normal(0, 1, 11).astype(np.float32) for _ in range(2)]
    counts = [random.integers(-(2**62), 2**62, 9) for _ in range(2)]
    federation.round(
        {
            f"silo-{i}": federation.seal_update(
                f"silo-{i}",
                {**federation.zeros(), Section.FLOAT_BUFFERS: means[i], Section.INTEGER_BUFFERS: counts[i]},
            )
            for i in range(2)
        }
    )
    new = federation.opened()
    assert np.allclose(new[Section.FLOAT_BUFFERS], 0.25 * means[0] + 0.75 * means[1], rtol=0, atol=1e-6)
    assert (new[Section.INTEGER_BUFFERS] == np.maximum(counts[0], counts[1])).all()
    assert new[Section.FROZEN].tobytes() == old[Section.FROZEN].tobytes()
    assert not new[Section.PARAMETERS].any()
