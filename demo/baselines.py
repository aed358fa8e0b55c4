"""What the federation is compared with: each site alone, all data in one place, and FedAvg over the same rounds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import strongroom
from demo import digits
from demo.task import SITES
from demo.workspace import LEARNING_RATE, LOCAL_STEPS, ROUNDS


def alone(index: int) -> float:
    """Test accuracy of one site that trains by itself for as many steps as in the federation."""
    return _train(digits.part(index, len(SITES)))


def centralised() -> float:
    """Test accuracy if all data lay in one place: what the federation is there to avoid."""
    return _train(digits.all_training_data())


def _train(data: tuple[torch.Tensor, torch.Tensor]) -> float:
    model = digits.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    digits.train(model, optimizer, data, steps=ROUNDS * LOCAL_STEPS, seed=1)
    return digits.accuracy(model)


def fedavg(agreement: Path) -> list[float]:
    """Test accuracy before each round and at the end, under FedAvg, simulated through the same enclave."""
    model = digits.model()
    seen: dict[int, float] = {}

    def task(index: int) -> Callable[[Any], None]:
        data = digits.part(index, len(SITES))

        def train(round: Any) -> None:
            model.load_state_dict(round.state_dict())
            seen.setdefault(round.number, digits.accuracy(model))
            optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
            digits.train(model, optimizer, data, steps=round.local_steps, seed=round.number)
            round.submit(model)

        return train

    history = strongroom.simulate(agreement, {name: task(index) for index, name in enumerate(SITES)})
    model.load_state_dict(history.state_dict or {})
    return [seen[number] for number in sorted(seen)] + [digits.accuracy(model)]
