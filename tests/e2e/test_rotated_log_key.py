"""The log's key is rotated between rounds, in processes: `strongroom appliance serve --rotate-log-key`.

The silos' processes stay and go on by themselves. Then the operator, who has kept a copy of the store from before and
has stolen the old key, tries both: neither is believed.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from least_squares_oracle import TASK, Oracle, Rows, check_path, cohorts, final_model, own_control
from process_federation import ProcessFederation, Running, exit_codes, federation

from attestation.collect.platform import SimulatedPlatform
from audit.entries import ApplianceStarted, KeyRotated, LogGenesis, RoundAbandoned
from audit.note import Checkpoint
from audit.store import DirectoryStore
from protocol.keys import SigningKey

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
DIMENSION, STEPS, ETA, ROUNDS = 7, 3, 0.1, 5
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
PASS, FAIL = "PASS (simulated: protects nothing)", "FAIL (simulated: protects nothing)"


@dataclass
class Told:
    """What the story came to."""

    federation: ProcessFederation
    rows: list[Rows]
    initial: np.ndarray
    rotating: Running
    older: Path
    codes: dict[str, int]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    torch.manual_seed(25)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    replace = {"rounds = 40": f"rounds = {ROUNDS}", "local_steps = 10": f"local_steps = {STEPS}"}
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS) as made:
        rows = [Rows.random(i, DIMENSION) for i in range(len(OWNERS))]
        for name, each in zip(made.names, rows, strict=True):
            each.write(made.folder / name)
        yield story(made, rows, network.weight.detach().double().numpy().ravel())


def story(made: ProcessFederation, rows: list[Rows], initial: np.ndarray) -> Told:
    made.gate(2)
    appliance = made.start_appliance()
    silos = [made.start_silo(name) for name in made.names]
    made.wait_published(2)
    for silo in silos:
        silo.wait_for("round", round=3)
    appliance.signal(signal.SIGTERM)
    assert appliance.exit_code() == 0
    older = made.folder / "appliance" / "older"
    shutil.copytree(made.store, older)

    config = made.folder / "appliance" / "appliance.toml"
    rotating = made.run("appliance", "appliance", "serve", "--json", "--rotate-log-key", "--config", config)
    made.ready = rotating.wait_for("ready")
    made.gate(ROUNDS)
    codes = exit_codes(silos)
    rotating.signal(signal.SIGTERM)
    assert rotating.exit_code() == 0
    return Told(made, rows, initial, rotating, older, codes)


def audited(told: Told, *arguments: str | Path) -> tuple[int, str]:
    made = told.federation
    verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml", *arguments)
    return verdict.returncode, verdict.stdout


def stolen_key(told: Told) -> SigningKey:
    """The first log key, out of the older copy: the simulated TEE's keys are no secret."""
    from appliance.enclave.sealed_state import StateVault

    made = told.federation
    [genesis] = made.entries(LogGenesis, told.older)
    vault = StateVault(
        store=DirectoryStore(told.older),
        sealing_key=SimulatedPlatform(made.agreement.appliance[0].measurements[0]).sealing_key(),
        agreement=made.agreement.digest,
        origin=made.agreement.log.origin,
        random=bytes,
    )
    return SigningKey(vault.load(genesis.state).log_seed)


def test_silos_go_on_by_themselves(told: Told) -> None:
    assert told.codes == dict.fromkeys(told.federation.names, 0)


def test_the_key_was_rotated_once_and_the_operator_is_told(told: Told) -> None:
    made = told.federation
    [rotated] = made.entries(KeyRotated)
    index = made.log().index(rotated)
    assert f"event=log-key-rotated entry={index} key={rotated.keys.log_key}" in told.rotating.errors
    assert [entry.keys.log == rotated.keys.log for entry in made.entries(ApplianceStarted)] == [False, True]
    assert [(entry.round, entry.reason) for entry in made.entries(RoundAbandoned)] == [(3, "restart")]


def test_training_is_what_it_would_have_been(told: Told) -> None:
    made = told.federation
    terms = Oracle(rows=told.rows, weights=[1.0] * 4, steps=STEPS, eta=ETA, server_eta=1.0)
    expected = terms.run(told.initial, cohorts(made))
    assert cohorts(made) == [[0, 1, 2, 3]] * ROUNDS
    for i, name in enumerate(made.names):
        assert check_path(made, name, expected) >= ROUNDS
        expected.check_model(final_model(made, name))
        expected.check_control(i, own_control(made, name))


def test_the_audit_passes_and_names_the_handover(told: Told) -> None:
    [rotated] = told.federation.entries(KeyRotated)
    code, said = audited(told)
    assert (code, said.splitlines()[0]) == (0, PASS)
    assert f"handed over to {rotated.keys.log_key}" in said


def test_every_receipt_of_a_silo_verifies_the_ones_from_before_too(told: Told) -> None:
    made = told.federation
    listed = made.command("silo", "receipts", "--config", "silo.toml", "--json", party="silo-0")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    index = next(row["index"] for row in rows if row["kind"] == "key.rotated")
    assert any(row["size"] <= index for row in rows)
    assert any(row["size"] > index for row in rows)
    for row in rows:
        assert row["kind"] != "round.published" or row["owners"] >= 3


def test_a_silos_head_from_before_the_rotation_is_in_the_log(told: Told) -> None:
    code, said = audited(told, "--head", told.older / "log" / "checkpoint")
    assert (code, said.splitlines()[0]) == (0, PASS)


def test_a_checkpoint_by_the_stolen_old_key_is_named(told: Told) -> None:
    made, key = told.federation, stolen_key(told)
    [rotated] = made.entries(KeyRotated)
    index = made.log().index(rotated)
    assert key.public.raw == rotated.previous
    newest = Checkpoint.parse((made.store / "log" / "checkpoint").read_bytes())
    forged = made.folder / "forged.note"
    forged.write_bytes(Checkpoint.sign(newest.origin, newest.head, key).encode())
    code, said = audited(told, "--head", forged)
    assert (code, said.splitlines()[0]) == (1, FAIL)
    assert f"signed with a key that was retired at entry {index}" in said


@pytest.mark.slow
def test_an_appliance_on_the_older_store_is_refused_by_a_silo(told: Told) -> None:
    made = told.federation
    made.write_appliance(made.ports, file="older.toml", store="older")
    older = made.serve("older.toml")
    older.wait_for("ready")
    refused = made.command("silo", "enroll", "--config", "silo.toml", party="silo-1")
    older.kill()
    [rotated] = made.entries(KeyRotated)
    index = made.log().index(rotated)
    assert refused.returncode == 4, refused.stderr
    assert f"log-rolled-back: expected the log under the key {rotated.keys.log_key}" in refused.stderr
    assert f"found it signed with a key that was retired at entry {index}" in refused.stderr
