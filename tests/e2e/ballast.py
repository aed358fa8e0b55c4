"""A silo's training script: least squares as in `least_squares.py`, and a ballast that makes the model some MiB.

Every coordinate of the ballast is pulled towards FOLDER/data.json's "pull", so that all of them stay equal. It submits
while the round is not past the number in FOLDER/gate, fetches the final model once the gate is past the last round, and
leaves it in FOLDER/final.json, of the ballast its least and its greatest.
"""

import json
import sys
import time
from pathlib import Path

import torch

import strongroom

torch.set_num_threads(1)
COORDINATES = 2**19 + 1000


class Net(torch.nn.Module):
    """The model."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(dimension, 1, bias=False)
        self.ballast = torch.nn.Parameter(torch.full((COORDINATES,), 0.5))


def wait_for_gate(folder: Path, number: int) -> None:
    while number > int((folder / "gate").read_text()):
        time.sleep(0.01)


def main(folder: Path) -> None:
    data = json.loads((folder / "data.json").read_text())
    features, targets = torch.tensor(data["features"]), torch.tensor(data["targets"])
    model = Net(features.shape[1])
    # What torch loads at the first optimizer is loaded before the first round, whose deadline runs.
    torch.optim.SGD(model.parameters(), lr=0.1).zero_grad()
    with strongroom.silo() as silo:
        for round in silo.rounds():
            model.load_state_dict(round.state_dict())
            optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
            for _ in range(round.local_steps):
                optimizer.zero_grad()
                loss = ((model.linear(features)[:, 0] - targets) ** 2).sum() / (2 * len(features))
                (loss + (model.ballast - data["pull"]).square().sum() / 2).backward()
                optimizer.step()
            wait_for_gate(folder, round.number)
            round.submit(model, metrics={"loss": loss})
        wait_for_gate(folder, silo.agreement.federation.rounds + 1)
        final = silo.final_state_dict()
    ballast = final["ballast"]
    found = {"weight": final["linear.weight"][0].tolist(), "ballast": [ballast.min().item(), ballast.max().item()]}
    (folder / "final.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
