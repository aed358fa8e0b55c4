"""A program around `strongroom.simulate` that is killed again and again: FOLDER, SEED and how often are its arguments.

It loads everything once and runs the simulation in a child, which it kills (SIGTERM or SIGKILL) a few log entries and
some milliseconds later; the next child goes on from the store. Prints how many of them were killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import torch

import strongroom
from audit.log import LogReader
from audit.store import DirectoryStore, NotFound
from silo_client.rounds import Round
from strongroom.simulation import History, Task

torch.set_num_threads(1)
DIMENSION = 23
SILOS = tuple(f"silo-{i}" for i in range(4))
PARTICIPATION = [SILOS, SILOS[:3], SILOS[1:], SILOS, SILOS[::3], SILOS, SILOS[1:3], SILOS]
DROPS = {4: ["silo-1"], 6: ["silo-2"]}


def network() -> torch.nn.Module:
    torch.manual_seed(8)
    return torch.nn.Linear(DIMENSION, 1)


def train(round: Round, index: int) -> None:
    model = network()
    model.load_state_dict(round.state_dict())
    optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
    inputs = torch.randn(6, DIMENSION, generator=torch.Generator().manual_seed(index))
    for _ in range(round.local_steps):
        optimizer.zero_grad()
        (model(inputs) - index).square().mean().backward()
        optimizer.step()
    round.submit(model)


def tasks() -> dict[str, Task]:
    return {name: lambda round, index=index: train(round, index) for index, name in enumerate(SILOS)}


def run(agreement: Path, store: Path | None) -> History:
    return strongroom.simulate(agreement, tasks(), participation=PARTICIPATION, drops=DROPS, store=store)


def size_of(store: Path) -> int:
    files = DirectoryStore(store / "appliance")
    try:
        return LogReader(files).size
    except NotFound:
        return 0
    finally:
        files.close()


def main(folder: Path, seed: int, kills: int) -> None:
    rng, store, killed = Random(seed), folder / "store", 0
    # What torch loads at the first optimizer takes longer than a child lives.
    torch.optim.SGD(network().parameters(), lr=0.1).zero_grad()
    while True:
        child = os.fork()
        if child == 0:
            run(folder / "federation.toml", store)
            os._exit(0)
        enough = size_of(store) + rng.randrange(1, 12)
        ended = 0
        while not ended and (killed == kills or size_of(store) < enough):
            ended = os.waitpid(child, os.WNOHANG)[0]
            time.sleep(0.0005)
        if ended:
            break
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, rng.choice((signal.SIGTERM, signal.SIGKILL)))
        os.waitpid(child, 0)
        killed += 1
    print(json.dumps({"killed": killed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
