"""Silos that come back with an older memory, or with none: the log says so, the silo hears it, nothing drifts.

One federation. Silo-1 is restored from a backup of some rounds ago; silo-2 loses its state folder; silo-3 is restored
to the moment before it sealed the update that the enclave has; silo-0 to one in which an update was pending whose
outcome was told since. Each time all control variates are reset, and the oracle, reset at the same rounds, agrees.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from fates import Fates
from least_squares_oracle import TASK, Oracle, Rows, check_path, cohorts, final_model, own_control, resets
from process_federation import ProcessFederation, Running, exit_codes, federation

from audit.entries import ControlReset, RoundPublished, UpdateAccepted, UpdateRefused

torch.set_num_threads(1)
DIMENSION, STEPS, ETA, ROUNDS = 11, 3, 0.1, 17
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")


@dataclass
class Told:
    """What the story came to: for each silo that lost something, its process since then, and the round it lost."""

    federation: ProcessFederation
    rows: list[Rows]
    initial: np.ndarray
    since: dict[str, Running]
    lost_in: dict[str, int]
    codes: dict[str, int]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    torch.manual_seed(12)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    replace = {"rounds = 40": f"rounds = {ROUNDS}", "local_steps = 10": f"local_steps = {STEPS}"}
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS) as made:
        rows = [Rows.random(i, DIMENSION) for i in range(len(OWNERS))]
        for name, each in zip(made.names, rows, strict=True):
            each.write(made.folder / name)
        yield story(made, rows, network.weight.detach().double().numpy().ravel())


def story(made: ProcessFederation, rows: list[Rows], initial: np.ndarray) -> Told:
    made.gate(0)
    made.start_appliance()
    silos = {name: made.start_silo(name) for name in made.names}
    lost_in: dict[str, int] = {}

    def go_on(number: int) -> None:
        """Up to this round; then everybody has trained for the next."""
        made.gate(number)
        made.wait_published(number)
        for silo in silos.values():
            if number < ROUNDS:
                silo.wait_for("round", round=number + 1)

    def set_back(name: str, number: int, backup: str | None) -> None:
        """The silo's machine dies in training for a round; it is set up again with an older state, or without."""
        silos[name].kill()
        shutil.rmtree(made.folder / name / "state")
        if backup is not None:
            (made.folder / name / backup).rename(made.folder / name / "state")
        silos[name] = made.start_silo(name)
        silos[name].wait_for("round", round=number)
        lost_in[name] = number

    def back_up(name: str, backup: str) -> None:
        shutil.copytree(made.folder / name / "state", made.folder / name / backup)

    go_on(1)
    back_up("silo-1", "old")
    go_on(3)
    set_back("silo-1", 4, "old")
    go_on(5)
    set_back("silo-2", 6, None)
    go_on(7)

    # In one and the same attempt: sealed, accepted, forgotten.
    back_up("silo-3", "old")
    made.gate(8, "silo-3")
    silos["silo-3"].wait_for("submitted", round=8)
    set_back("silo-3", 8, "old")
    silos["silo-3"].wait_for("submitted", round=8)
    go_on(10)

    # With an update pending.
    made.gate(11, "silo-0")
    silos["silo-0"].wait_for("submitted", round=11)
    back_up("silo-0", "pending")
    go_on(12)
    set_back("silo-0", 13, "pending")
    made.gate(ROUNDS)
    codes = exit_codes(list(silos.values()))
    return Told(made, rows, initial, silos, lost_in, codes)


def text_of(silo: Running, kind: str) -> list[str]:
    return [event["text"] for event in silo.events if event["event"] == kind]


def test_a_silo_restored_from_a_backup_is_told_that_it_lost_its_control_variate(told: Told) -> None:
    made, silo = told.federation, told.since["silo-1"]
    used = [entry for entry in made.entries(UpdateAccepted) if entry.silo == "silo-1"]
    of_round = {entry.round: entry.upload_id.hex() for entry in used}
    [late] = text_of(silo, "late")
    assert late == (
        "round 4: the update won't be used: wrong-parent: expected the silo's last used update as parent: "
        f"{of_round[3]}, found {of_round[1]}; the silo lost its control variate; a control.reset is logged and "
        "training goes on from zero (so says the appliance, unsigned)"
    )
    assert text_of(silo, "control-reset")[0] == "all control variates were reset; this silo's is zero again"


def test_a_silo_that_lost_its_state_folder_is_told_so_too(told: Told) -> None:
    [late] = text_of(told.since["silo-2"], "late")
    assert late.startswith("round 6: the update won't be used: wrong-parent: expected the silo's last used update as ")
    lost = "the silo lost its control variate; a control.reset is logged and training goes on from zero"
    assert late.endswith(f", found none; {lost} (so says the appliance, unsigned)")


def test_a_silo_set_back_in_mid_round_hears_that_another_update_in_its_name_was_used(told: Told) -> None:
    silo = told.since["silo-3"]
    assert "round 8: the appliance has the update already" in text_of(silo, "submitted")
    assert (
        "round 8 was published, without this silo's update; it used another update in this silo's name: did the silo "
        "lose its state, or its identity key?"
    ) in text_of(silo, "outcome")
    [late] = text_of(silo, "late")
    assert late.startswith("round 9: the update won't be used: wrong-parent: ")


def test_a_silo_restored_with_a_pending_update_hears_its_outcome_and_is_reset(told: Told) -> None:
    silo = told.since["silo-0"]
    assert text_of(silo, "outcome")[0] == "round 11 was published, with this silo's update"
    [late] = text_of(silo, "late")
    assert late.startswith("round 13: the update won't be used: wrong-parent: ")


def test_the_others_hear_of_every_reset(told: Told) -> None:
    for name in ("silo-1", "silo-2", "silo-3"):
        heard = sum(run.name == name and len(text_of(run, "control-reset")) for run in told.federation.runs)
        assert heard >= 3, name


def test_every_loss_is_a_logged_reset_that_names_the_silo(told: Told) -> None:
    made = told.federation
    refused = [(entry.round, entry.silo, entry.code) for entry in made.entries(UpdateRefused)]
    assert refused == [
        (4, "silo-1", "wrong-parent"),
        (6, "silo-2", "wrong-parent"),
        (9, "silo-3", "wrong-parent"),
        (13, "silo-0", "wrong-parent"),
    ]
    found = [(entry.epoch, entry.silo) for entry in made.entries(ControlReset)]
    assert found == [(1, "silo-1"), (2, "silo-2"), (3, "silo-3"), (4, "silo-0")]
    assert resets(made) == [5, 7, 10, 14]


def test_a_round_goes_on_without_the_silo_that_lost_its_memory(told: Told) -> None:
    for entry in told.federation.entries(RoundPublished):
        missing = set(told.federation.names) - {member.silo for member in entry.cohort}
        assert missing == {4: {"silo-1"}, 6: {"silo-2"}, 9: {"silo-3"}, 13: {"silo-0"}}.get(entry.round, set())


def test_the_oracle_agrees_before_and_after_each_reset(told: Told) -> None:
    made = told.federation
    terms = Oracle(rows=told.rows, weights=[1.0] * 4, steps=STEPS, eta=ETA, server_eta=1.0)
    expected = terms.run(told.initial, cohorts(made), resets(made))
    for i, name in enumerate(made.names):
        assert check_path(made, name, expected) >= ROUNDS
        expected.check_model(final_model(made, name))
        expected.check_control(i, own_control(made, name))
    # It could have told: without the resets the path is another.
    assert np.linalg.norm(terms.run(told.initial, cohorts(made)).model - expected.model) > 1e-4 * expected.travelled


def test_the_federation_ends_and_the_audit_passes(told: Told) -> None:
    made = told.federation
    assert told.codes == dict.fromkeys(made.names, 0)
    verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml")
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")
    fates = Fates.of(made.log(), [(run.name, run.events) for run in made.runs if run.name in made.names])
    assert fates.losses == []
