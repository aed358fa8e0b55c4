"""One site's training script: an ordinary loop over its own digits, and five lines of Strongroom around it.

strongroom silo train demo/task.py --config silo.toml
"""

import sys

import torch
from torch import nn

from demo import digits

SITES = ("berlin", "geneva", "lyon", "vienna")


def build_model() -> nn.Module:
    """The federation's model; `strongroom agreement model` makes layout and first weights from it."""
    return digits.model()


def main(folder: str) -> None:
    """Take part until the federation ends, and keep its model."""
    import safetensors.torch

    import strongroom

    model = build_model()
    # All that is loaded at the first step is loaded before the first round, whose deadline runs.
    digits.train(model, torch.optim.SGD(model.parameters(), lr=0.1), digits.part(0, len(SITES)), steps=1, seed=0)
    with strongroom.silo() as silo:
        data = digits.part(SITES.index(silo.name), len(SITES))
        for round in silo.rounds():
            model.load_state_dict(round.state_dict())
            accuracy = digits.accuracy(model)
            optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
            loss = digits.train(model, optimizer, data, steps=round.local_steps, seed=round.number)
            round.submit(model, metrics={"loss": loss, "accuracy": accuracy})
        safetensors.torch.save_file(silo.final_state_dict(), f"{folder}/model.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
