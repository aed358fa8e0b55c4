"""An appliance is killed and loses its sealed state; three silos let it go on under a new key. In processes.

The fourth silo's user does nothing at all: its process waits, follows the log to the new key, and trains on.
"""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from least_squares_oracle import TASK, Rows, final_model
from process_federation import ProcessFederation, Running, exit_codes, federation

from audit.entries import ApplianceStarted, LogRecovered, RoundAbandoned, RoundPublished

torch.set_num_threads(1)
pytestmark = pytest.mark.slow
DIMENSION, ROUNDS = 7, 5
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
ASKED = ("silo-0", "silo-1", "silo-2")
PASS = "PASS (simulated: protects nothing)"


@dataclass
class Told:
    """What the story came to."""

    federation: ProcessFederation
    refused: Running
    recovering: Running
    looked: CompletedProcess[str]
    declined: CompletedProcess[str]
    granted: list[CompletedProcess[str]]
    afterwards: CompletedProcess[str]
    waiting: Running
    codes: dict[str, int]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    torch.manual_seed(26)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    replace = {"rounds = 40": f"rounds = {ROUNDS}", "local_steps = 10": "local_steps = 3"}
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS) as made:
        for i, name in enumerate(made.names):
            Rows.random(i, DIMENSION).write(made.folder / name)
        yield story(made)


def recover(made: ProcessFederation, name: str, *options: str) -> CompletedProcess[str]:
    return made.command("silo", "recover", "--config", "silo.toml", *options, party=name)


def story(made: ProcessFederation) -> Told:
    made.gate(2)
    appliance = made.start_appliance()
    silos = {name: made.start_silo(name) for name in made.names}
    made.wait_published(2)
    for silo in silos.values():
        silo.wait_for("round", round=3)
    appliance.kill()
    for file in (made.store / "state").iterdir():
        file.unlink()

    refused = made.serve()
    refused.exit_code()
    config = made.folder / "appliance" / "appliance.toml"
    recovering = made.run("appliance", "appliance", "serve", "--json", "--recover", "--config", config)
    made.ready = recovering.wait_for("ready")
    waiting = silos["silo-3"]
    waiting.wait_for("waiting")
    for name in ASKED:
        silos[name].signal(signal.SIGTERM)
        silos[name].exit_code()
    looked, declined = recover(made, "silo-0", "--json"), recover(made, "silo-0")
    granted = [recover(made, name, "--yes", *(["--json"] if name == "silo-2" else [])) for name in ASKED]
    afterwards = recover(made, "silo-1", "--yes")

    made.gate(ROUNDS)
    silos |= {name: made.start_silo(name) for name in ASKED}
    codes = exit_codes(list(silos.values()))
    recovering.signal(signal.SIGTERM)
    assert recovering.exit_code() == 0
    return Told(made, refused, recovering, looked, declined, granted, afterwards, waiting, codes)


def test_without_recover_it_refuses_to_start_and_says_what_to_do(told: Told) -> None:
    assert told.refused.exit_code() == 3
    assert "start-refused the store is damaged, or older than its own log: sealed state" in told.refused.errors
    assert "start with --recover, and let the silos authorise a new key (`strongroom silo recover`)" in (
        told.refused.errors
    )


def test_what_is_lost_is_said_before_it_is_asked_for(told: Told) -> None:
    assert told.looked.returncode == 0, told.looked.stderr
    found = json.loads(told.looked.stdout)
    assert found["granted"] is False
    assert found["lost"] == {
        "attempt": {"round": 3, "attempt": 1},
        "controls": True,
        "published_rounds": 2,
        "model_of_round": {"this_silo": 2, "any_silo_so_far": 2},
    }
    assert told.declined.returncode == 1
    assert "attempt  1 of round 3: it is abandoned, and trained again" in told.declined.stdout
    assert "model    nothing: this silo holds that of round 2, the newest" in told.declined.stdout


def test_three_owners_are_enough(told: Told) -> None:
    assert [run.returncode for run in told.granted] == [0, 0, 0], [run.stderr for run in told.granted]
    first, second, third = (run.stdout for run in told.granted)
    assert "1 of 3 owners have authorised it (alpenklinik); the appliance waits for the others." in first
    assert "2 of 3 owners have authorised it" in second
    [entry] = told.federation.entries(LogRecovered)
    found = json.loads(third)
    assert (found["owners"], found["required"], found["recovered"]) == (list(OWNERS[:3]), 3, entry.size + 3)
    assert f"event=log-recovered entry={entry.size} grants=3" in told.recovering.errors


def test_afterwards_there_is_nothing_to_authorise(told: Told) -> None:
    assert told.afterwards.returncode == 3
    assert told.afterwards.stderr.splitlines()[-1].startswith("not-recovering: expected an appliance that has lost")


def test_training_goes_on_to_the_end(told: Told) -> None:
    made = told.federation
    assert told.codes == dict.fromkeys(made.names, 0)
    assert [entry.round for entry in made.entries(RoundPublished)] == list(range(1, ROUNDS + 1))
    assert [(entry.round, entry.reason) for entry in made.entries(RoundAbandoned)] == [(3, "restart")]
    assert made.entries(LogRecovered)[0].model == made.entries(RoundPublished)[1].model_out
    assert len(made.entries(ApplianceStarted)) == 2
    finals = [final_model(made, name) for name in made.names]
    assert all(np.array_equal(final, finals[0]) for final in finals)


def test_a_silo_that_was_not_asked_has_waited_and_followed(told: Told) -> None:
    said = [event["text"] for event in told.waiting.events if event["event"] == "waiting"]
    assert any("one that has lost it and waits for the silos' leave" in text or "out of reach" in text for text in said)
    assert any(event["event"] == "control-reset" for event in told.waiting.events)


def test_the_audit_passes_and_shows_it(told: Told) -> None:
    made = told.federation
    verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml")
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, PASS), verdict.stdout
    [entry] = made.entries(LogRecovered)
    assert f"was lost, and silos granted {entry.keys.log_key}" in verdict.stdout


def test_the_silos_receipts_verify_over_the_recovery(told: Told) -> None:
    listed = told.federation.command("silo", "receipts", "--config", "silo.toml", "--json", party="silo-3")
    assert listed.returncode == 0, listed.stderr
    assert "log.recovered" in [row["kind"] for row in json.loads(listed.stdout)]


def test_both_new_keys_at_once_are_a_mistake(told: Told) -> None:
    options = ("--recover", "--rotate-log-key", "--config", "appliance.toml")
    found = told.federation.command("appliance", "serve", *options)
    assert found.returncode == 2
    assert found.stderr == ("expected one of --rotate-log-key and --recover, found both: a lost key can't hand over\n")


def test_one_silos_folder_keeps_what_it_authorised(told: Told) -> None:
    state = told.federation.folder / "silo-0" / "state"
    kept = [file.name for file in state.rglob("*.grant")]
    [entry] = told.federation.entries(LogRecovered)
    assert kept == [f"{entry.size:08d}-{entry.boot_id.hex()[:16]}.grant"]
