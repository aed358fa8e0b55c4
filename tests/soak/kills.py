"""`make soak-kills`: a long federation of real processes, any of which is killed (SIGKILL) at random moments.

KILLS kills, drawn from SEED: silos, the gateway, the enclave, the whole appliance; often the next one follows before
the last has been got over. Silos and appliance are started again, as a service manager would. At the end the figures
are printed and written as JSON; the exit status is 1 if anything is lost: a round, an update, a control variate, the
audit's PASS, the oracle's path.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch
from fates import Fates
from least_squares_oracle import TASK, Oracle, Rows, cohorts, final_model, own_control
from process_federation import ProcessFederation, Running, children, federation

from audit.entries import ApplianceStarted, ControlReset, Entry, RoundPublished, parse_entry
from audit.log import LogDamagedError, LogReader
from audit.store import DirectoryStore, NotFound

OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom", "estia", "fjordbank")
DIMENSION, STEPS, ETA = 9, 3, 0.1
VICTIMS = {"silo": 8, "gateway": 4, "enclave": 5, "appliance": 3}
PATIENCE_SECONDS = 120.0
_GIVEN_UP = 4


class Stalled(Exception):
    """The federation didn't go on, or somebody ended who wasn't killed."""


@dataclass
class Follower:
    """The log as it grows, each entry read once."""

    store: Path
    entries: list[Entry] = field(default_factory=list)
    published: int = 0

    def read(self) -> int:
        """The number of published rounds."""
        files = DirectoryStore(self.store)
        # The enclave may be deleting what it has outgrown: then the next look sees it.
        with suppress(NotFound, LogDamagedError):
            new = [parse_entry(data) for data in LogReader(files).entries(len(self.entries))]
            self.entries += new
            self.published += sum(isinstance(entry, RoundPublished) for entry in new)
        files.close()
        return self.published


class Soak:
    """One run over one federation."""

    def __init__(self, made: ProcessFederation, rng: Random, kills: int) -> None:
        self.made = made
        self.follower = Follower(made.store)
        self.kills: Counter[str] = Counter()
        self.recoveries: dict[str, list[float]] = {}
        self.appliances: list[Running] = []
        self.given_up = 0
        self._wanted = kills
        self._rng = rng
        self._rounds = made.agreement.federation.rounds
        self._gate = 0
        self._silos: dict[str, Running] = {}
        self._due = dict.fromkeys(("appliance", *made.names), 0.0)

    def play(self, killed: Callable[[int], None]) -> None:
        """Kill until so many are killed, then let the federation end; raises `Stalled`."""
        self._let_go_on(1)
        self._until(lambda: self.follower.read() >= 1, "the first round")
        while self.kills.total() < self._wanted:
            self._let_go_on(self.follower.read() + self._rng.randrange(3))
            self._pass(self._rng.uniform(0, 1))
            victim = self._rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            if not self._kill(victim):
                continue
            self.kills[victim] += 1
            killed(self.kills.total())
            if self._rng.random() < 2 / 3:
                self._get_over(victim)
        self._gate = self._rounds
        self.made.gate(self._gate)
        self._until(lambda: self.follower.read() == self._rounds, "the last round", self._rounds + PATIENCE_SECONDS)
        self._until(lambda: all(not silo.running for silo in self._silos.values()), "the silos' end")

    def _get_over(self, victim: str) -> None:
        began, number = time.monotonic(), self.follower.read()
        self._let_go_on(number + 1)
        self._until(lambda: self.follower.read() > number, f"a round after the {victim} was killed")
        self.recoveries.setdefault(victim, []).append(time.monotonic() - began)

    def _let_go_on(self, number: int) -> None:
        """Let silos submit up to this round; the last ones are kept for the end."""
        number = min(number, self._rounds - 1)
        if number > self._gate:
            self._gate = number
            self.made.gate(number)

    # Killing

    def _kill(self, victim: str) -> bool:
        """False if there is none to kill at this moment."""
        if victim == "silo":
            living = [name for name in self.made.names if name not in self._due]
            if not living:
                return False
            name = self._rng.choice(living)
            self._silos[name].kill()
            self._due[name] = time.monotonic() + self._rng.uniform(0, 3)
            return True
        if "appliance" in self._due:
            return False
        if victim == "appliance":
            self.appliances[-1].kill()
            self._due["appliance"] = time.monotonic() + self._rng.uniform(0, 1)
            return True
        pids = children(self.appliances[-1].process.pid, victim)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    # Waiting, and starting again meanwhile

    def _until(self, look: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not look():
            if time.monotonic() > deadline:
                raise Stalled(f"waited {seconds:.0f} s for {what}")
            self._tend()
            time.sleep(0.01)

    def _pass(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._until(lambda: time.monotonic() >= end, "a moment")

    def _tend(self) -> None:
        """Start whoever is due; notice who has ended unasked."""
        for party in [party for party, due in self._due.items() if time.monotonic() >= due]:
            del self._due[party]
            if party == "appliance":
                self.appliances.append(self.made.serve())
            else:
                self._silos[party] = self.made.start_silo(party)
        if "appliance" not in self._due and not self.appliances[-1].running:
            if self.appliances[-1].exit_code() != _GIVEN_UP:
                raise Stalled(f"the appliance ended with {self.appliances[-1].exit_code()}")
            self.given_up += 1
            self._due["appliance"] = 0.0
        for name, silo in self._silos.items():
            if name not in self._due and not silo.running and silo.exit_code() != 0:
                raise Stalled(f"{name} ended with {silo.exit_code()}: {silo.errors[-500:]}")


def figures(soak: Soak, rows: list[Rows], initial: np.ndarray, seconds: float, stalled: str | None) -> dict[str, Any]:
    """What the run came to; `losses` holds a sentence for everything that is not as it must be."""
    made, log = soak.made, soak.made.log()
    fates = Fates.of(log, [(run.name, run.events) for run in made.runs if run.name in made.names])
    rounds = made.agreement.federation.rounds
    published = [entry.round for entry in log if isinstance(entry, RoundPublished)]
    said = "".join(appliance.errors for appliance in soak.appliances)
    audit = made.run("appliance", "audit", "verify", made.store, "--agreement", "federation.toml")
    audit.exit_code(600)
    resets = sum(isinstance(entry, ControlReset) for entry in log)
    losses = [*fates.losses]
    distances: dict[str, float] = {}
    if stalled is None:
        expected = Oracle(rows=rows, weights=[1.0] * len(rows), steps=STEPS, eta=ETA, server_eta=1.0).run(
            initial, cohorts(made)
        )
        for i, name in enumerate(made.names):
            distances[f"{name} model"] = float(np.linalg.norm(final_model(made, name) - expected.model))
            distances[f"{name} control"] = float(np.linalg.norm(own_control(made, name) - expected.controls[i]))
        distances = {what: distance / expected.travelled for what, distance in distances.items()}
        losses += [f"{what}: {far:.1e} of the way from the oracle" for what, far in distances.items() if far > 1e-5]
    else:
        losses.append(stalled)
    if published != list(range(1, rounds + 1)):
        losses.append(f"expected rounds 1 to {rounds} once each, found {len(published)}")
    if not audit.output.startswith("PASS"):
        losses.append(f"the audit says {audit.output[:300]!r}")
    if resets:
        losses.append(f"{resets} control variates were lost, and reset")
    if fates.refused:
        losses.append(f"updates were refused: {dict(fates.refused)}")
    return {
        "kills": {"all": soak.kills.total(), **{victim: soak.kills[victim] for victim in VICTIMS}},
        "starts": {
            "silo": sum(run.name in made.names for run in made.runs),
            "gateway": said.count("event=restart child=gateway") + len(soak.appliances),
            "enclave": said.count("event=restart child=enclave") + len(soak.appliances),
            "appliance": len(soak.appliances),
        },
        "boots in the log": sum(isinstance(entry, ApplianceStarted) for entry in log),
        "given up by the supervisor": soak.given_up,
        "log entries": len(log),
        "rounds published": len(published),
        "attempts abandoned": dict(fates.abandoned),
        "updates accepted": fates.accepted,
        "updates used": fates.used,
        "updates repeated": fates.repeated,
        "updates not repeated, their silo being away": fates.not_repeated,
        "updates refused": dict(fates.refused),
        "control resets": resets,
        "seconds to the next round (median)": {
            victim: round(median(times), 1) for victim, times in sorted(soak.recoveries.items())
        },
        "seconds to the next round (longest)": {
            victim: round(max(times), 1) for victim, times in sorted(soak.recoveries.items())
        },
        "distance from the oracle": max(distances.values(), default=None),
        "audit": audit.output.partition("\n")[0],
        "wall seconds": round(seconds),
        "losses": losses,
    }


def run(kills: int, seed: int, killed: Callable[[int], None]) -> dict[str, Any]:
    """Play a whole run; returns its figures."""
    torch.manual_seed(seed)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    replace = {
        "rounds = 40": f"rounds = {kills * 3 // 2 + 10}",
        "enrolment_deadline_seconds = 600": "enrolment_deadline_seconds = 5",
        "round_deadline_seconds = 60": "round_deadline_seconds = 4",
        "local_steps = 10": f"local_steps = {STEPS}",
    }
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS) as made:
        rows = [Rows.random(i, DIMENSION) for i in range(len(OWNERS))]
        for name, each in zip(made.names, rows, strict=True):
            each.write(made.folder / name)
        made.gate(0)
        soak, began, stalled = Soak(made, Random(seed), kills), time.monotonic(), None
        try:
            soak.play(killed)
        except Stalled as error:
            stalled = str(error)
        initial = network.weight.detach().double().numpy().ravel()
        return figures(soak, rows, initial, time.monotonic() - began, stalled)


def table(found: dict[str, Any]) -> str:
    """The figures, a line each."""
    lines = []
    for what, figure in found.items():
        shown = ", ".join(f"{key} {value}" for key, value in figure.items()) if isinstance(figure, dict) else figure
        if isinstance(figure, float):
            shown = f"{figure:.1e}"
        if isinstance(figure, list):
            shown = "; ".join(figure)
        lines.append(f"  {what:<44} {'none' if shown in ('', None) else shown}")
    return "\n".join(lines)


def main() -> int:
    """Run, show and write the figures."""
    parser = argparse.ArgumentParser(description="Kill the processes of a long federation at random.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("soak-kills.json"))
    arguments = parser.parse_args()

    def killed(count: int) -> None:
        if count % 20 == 0:
            print(f"{count} of {arguments.kills} killed", file=sys.stderr, flush=True)

    found = {"seed": arguments.seed, **run(arguments.kills, arguments.seed, killed)}
    arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))
    return 1 if found["losses"] else 0


if __name__ == "__main__":
    sys.exit(main())
