"""SCAFFOLD, FedAvg and FedProx through real processes with random cohorts, lost uploads, kills and restarts.

Every model that a silo saw, the final one and every c_i are those of the papers' boxes in NumPy (`restless.py`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from restless import EVENTS, Restless, control_bytes, restless

from audit.entries import RoundAbandoned, RoundPublished

pytestmark = pytest.mark.slow

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scaffold() -> Iterator[Restless]:
    with restless("scaffold", 3, ("all", "lose", "stop", "absent", "crash", "all"), deadline_seconds=2) as made:
        yield made


def test_scaffold_is_the_papers_with_losses_and_restarts(scaffold: Restless) -> None:
    scaffold.check()


def test_whoever_misses_a_round_is_left_out_of_it_and_comes_back(scaffold: Restless) -> None:
    assert len(scaffold.missing) == 2
    for number, name in scaffold.missing.items():
        cohorts = [[m.silo for m in entry.cohort] for entry in scaffold.made.entries(RoundPublished)]
        assert name not in cohorts[number - 1]
        assert any(name in cohort for cohort in cohorts[number:])


def test_stopped_and_killed_it_comes_to_the_same_bits_as_undisturbed(scaffold: Restless, tmp_path: Path) -> None:
    """As `simulate` with the same cohorts: each round's model and control, the final model, and every c_i."""
    made, undisturbed = scaffold.made, scaffold.simulated(tmp_path)
    assert undisturbed.abandoned == 0
    found = [(entry.model_out, entry.control_out) for entry in made.entries(RoundPublished)]
    expected = [(entry.model_out, entry.control_out) for entry in made.entries(RoundPublished, tmp_path / "appliance")]
    assert found == expected
    assert undisturbed.state_dict is not None
    [final] = {(made.folder / name / "final.json").read_text() for name in made.names}
    assert json.loads(final) == {name: tensor.tolist() for name, tensor in undisturbed.state_dict.items()}
    for name in made.names:
        ours = control_bytes(made.folder / name / "state", made.agreement, name)
        assert ours == control_bytes(tmp_path / "silos" / name, undisturbed.agreement, name)
        assert any(ours)


def bits(run: Restless) -> tuple[list[object], set[str], list[bytes]]:
    """All that a federation comes to: every round's cohort and digests, the final model, and every silo's c_i."""
    made = run.made
    rounds: list[object] = [
        (entry.round, [member.silo for member in entry.cohort], entry.model_out, entry.control_out)
        for entry in made.entries(RoundPublished)
    ]
    finals = {(made.folder / name / "final.json").read_text() for name in made.names}
    return rounds, finals, [control_bytes(made.folder / name / "state", made.agreement, name) for name in made.names]


@pytest.mark.slow
def test_the_same_federation_with_and_without_stops_comes_to_the_same_bits() -> None:
    """Nobody misses a round: every restart waits for all four, and the deadline is far."""
    stops = ("all", "stop", "enclave", "gateway", "crash", "stop", "crash", "all")
    with restless("scaffold", 5, ("all",) * len(stops), deadline_seconds=60) as undisturbed:
        expected = bits(undisturbed)
        undisturbed.check()
    with restless("scaffold", 5, stops, deadline_seconds=60) as stopped:
        assert len(stopped.made.entries(RoundAbandoned)) >= 4
        assert bits(stopped) == expected
        stopped.check()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("strategy", ["scaffold", "fedavg", "fedprox"])
def test_the_trajectory_is_the_papers_whatever_happens(strategy: str, seed: int) -> None:
    played = Random(f"{strategy} {seed}").choices(EVENTS, k=20)
    with restless(strategy, seed, played) as made:
        made.check()
