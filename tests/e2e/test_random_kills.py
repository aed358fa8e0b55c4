"""Long federations of real processes: killed again and again at random moments, or under the other strategies."""

import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from least_squares_oracle import TASK, Oracle, Rows, cohorts, final_model, own_control
from process_federation import ProcessFederation, Running, exit_codes, federation

from audit.entries import ControlReset

torch.set_num_threads(1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DIMENSION, STEPS, ETA = 9, 3, 0.1
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
KILLING_SECONDS = 60.0


@contextmanager
def least_squares(
    rounds: int, replace: Mapping[str, str]
) -> Iterator[tuple[ProcessFederation, list[Rows], torch.Tensor]]:
    torch.manual_seed(6)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    terms = {
        "rounds = 40": f"rounds = {rounds}",
        "round_deadline_seconds = 60": "round_deadline_seconds = 4",
        "local_steps = 10": f"local_steps = {STEPS}",
    }
    with federation(network=network, task=TASK, replace={**terms, **replace}, owners=OWNERS) as made:
        rows = [Rows.random(i, DIMENSION) for i in range(len(OWNERS))]
        for name, each in zip(made.names, rows, strict=True):
            each.write(made.folder / name)
        yield made, rows, network.weight.detach().double().numpy().ravel()


def check_the_end(made: ProcessFederation, silos: Mapping[str, Running], rounds: int) -> None:
    assert exit_codes(list(silos.values())) == dict.fromkeys(made.names, 0), [run.errors for run in silos.values()]
    assert made.published() == list(range(1, rounds + 1))
    verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml")
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")


@pytest.mark.parametrize("seed", [1, 2])
def test_scaffold_survives_random_kills(seed: int) -> None:
    rounds, rng = 200, random.Random(seed)
    with least_squares(rounds, {}) as (made, rows, initial):
        made.gate(1)
        appliance = made.start_appliance()
        silos = {name: made.start_silo(name) for name in made.names}
        made.wait_published(1)
        end = time.monotonic() + KILLING_SECONDS
        while time.monotonic() < end:
            # Two rounds that may be under way, and a moment that nobody has chosen.
            made.gate(min(made.published()[-1] + 2, rounds - 1))
            time.sleep(rng.uniform(0, 1.5))
            what = rng.choice(("silo", "silo", "enclave", "gateway", "appliance"))
            if what == "silo":
                name = rng.choice(made.names)
                silos[name].kill()
                time.sleep(rng.uniform(0, 2))
                silos[name] = made.start_silo(name)
            elif what == "appliance":
                appliance.signal(rng.choice((signal.SIGTERM, signal.SIGKILL)))
                appliance.exit_code()
                appliance = made.start_appliance()
            else:
                said = len(appliance.events)
                made.kill_child(what)
                made.ready = appliance.wait_for("ready", since=said)
        made.gate(rounds)
        check_the_end(made, silos, rounds)
        expected = Oracle(rows=rows, weights=[1.0] * 4, steps=STEPS, eta=ETA, server_eta=1.0).run(
            initial, cohorts(made)
        )
        expected.check_model(final_model(made, "silo-0"))
        for i, name in enumerate(made.names):
            expected.check_control(i, own_control(made, name))
        assert not made.entries(ControlReset)


@pytest.mark.parametrize(("strategy", "mu"), [("fedavg", 0.0), ("fedprox", 0.3)])
def test_the_other_strategies_are_the_papers_too(strategy: str, mu: float) -> None:
    rounds = 12
    line = f'"{strategy}"' + (f"\nproximal_mu = {mu}" if mu else "")
    with least_squares(rounds, {'"scaffold"': line}) as (made, rows, initial):
        made.gate(5)
        made.start_appliance()
        silos = {name: made.start_silo(name) for name in made.names}
        silos["silo-2"].wait_for("round", round=6)
        silos["silo-2"].kill()
        made.gate(7)
        made.wait_published(7)
        silos["silo-2"] = made.start_silo("silo-2")
        made.gate(rounds)
        check_the_end(made, silos, rounds)
        terms = Oracle(rows=rows, weights=[1.0] * 4, steps=STEPS, eta=ETA, server_eta=1.0, strategy=strategy, mu=mu)
        terms.run(initial, cohorts(made)).check_model(final_model(made, "silo-0"))
