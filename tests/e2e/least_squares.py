"""A silo's training script: least squares over the rows in FOLDER/data.json, full gradients, one linear layer.

It submits while the round is not past the number in FOLDER/gate, sits those in FOLDER/skips out (where that file is),
and leaves the final model in FOLDER/final.json. In FOLDER/seen.jsonl it notes what model each round began with.
"""

import json
import sys
import time
from pathlib import Path

import torch

import strongroom

torch.set_num_threads(1)


def skipped(folder: Path) -> list[int]:
    file = folder / "skips"
    return json.loads(file.read_text()) if file.exists() else []


def main(folder: Path) -> None:
    data = json.loads((folder / "data.json").read_text())
    features, targets = torch.tensor(data["features"]), torch.tensor(data["targets"])
    model = torch.nn.Linear(features.shape[1], 1, bias=False)
    # What torch loads at the first optimizer is loaded before the first round, whose deadline runs.
    torch.optim.SGD(model.parameters(), lr=0.1).zero_grad()
    with strongroom.silo() as silo:
        for round in silo.rounds():
            model.load_state_dict(round.state_dict())
            with (folder / "seen.jsonl").open("a") as seen:
                seen.write(json.dumps([round.number, model.weight[0].tolist()]) + "\n")
            optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
            for _ in range(round.local_steps):
                optimizer.zero_grad()
                loss = ((model(features)[:, 0] - targets) ** 2).sum() / (2 * len(features))
                loss.backward()
                optimizer.step()
            while round.number > int((folder / "gate").read_text()):
                time.sleep(0.01)
            if round.number in skipped(folder):
                round.skip()
            else:
                round.submit(model, metrics={"loss": loss})
        final = {name: tensor.tolist() for name, tensor in silo.final_state_dict().items()}
    (folder / "final.json").write_text(json.dumps(final))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
