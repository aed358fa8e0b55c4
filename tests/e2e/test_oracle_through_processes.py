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

from audit.entries import RoundPublished

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scaffold() -> Iterator[Restless]:
    with restless(
        "scaffold", 3, ("all", "lose", "stop", "enclave", "absent", "crash", "all"), deadline_seconds=2
    ) as made:
        yield made


def test_scaffold_is_the_papers_with_losses_and_restarts(scaffold: Restless) -> None:
    scaffold.check()
    assert min(len(entry.cohort) for entry in scaffold.made.entries(RoundPublished)) < 4


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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("strategy", ["scaffold", "fedavg", "fedprox"])
def test_the_trajectory_is_the_papers_whatever_happens(strategy: str, seed: int) -> None:
    played = Random(f"{strategy} {seed}").choices(EVENTS, k=30)
    with restless(strategy, seed, played) as made:
        made.check()
