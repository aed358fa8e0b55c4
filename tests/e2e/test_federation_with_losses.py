"""One long federation of real processes that loses every one of them once, and what is left of it at the end.

Four silos train least squares with SCAFFOLD. A silo comes with another agreement; one is killed in the middle of a
round, one after its update was accepted; enclave and gateway are killed while updates are out; the operator stops the
appliance and starts it again. The tests look at what the parties then hold.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from least_squares_oracle import TASK, Oracle, Result, Rows, cohorts, final_model, own_control
from process_federation import ProcessFederation, Running, exit_codes, federation

from audit.entries import ApplianceStarted, ControlReset, RoundAbandoned, RoundPublished, UpdateAccepted

torch.set_num_threads(1)
DIMENSION, ROUNDS, STEPS, ETA, SERVER_ETA = 17, 24, 5, 0.11, 0.9
WEIGHTS = (1.0, 2.0, 1.0, 3.0)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
ALL = ("silo-0", "silo-1", "silo-2", "silo-3")


@dataclass
class Told:
    """What the story came to."""

    federation: ProcessFederation
    rows: list[Rows]
    initial: np.ndarray
    changed_digest: str
    stranger: Running
    first_boot: dict[str, object]
    after_enclave: dict[str, object]
    after_gateway: dict[str, object]
    appliance_codes: list[int]
    silo_codes: dict[str, int]
    rounds: dict[str, int]
    log: str


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    torch.manual_seed(3)
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    replace = {
        "rounds = 40": f"rounds = {ROUNDS}",
        "round_deadline_seconds = 60": "round_deadline_seconds = 8",
        "local_steps = 10": f"local_steps = {STEPS}",
        "learning_rate = 0.1\n": f"learning_rate = {ETA}\n",
        "server_learning_rate = 1\n": f"server_learning_rate = {SERVER_ETA}\n",
    }
    weights = tuple(map(str, WEIGHTS))
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS, weights=weights) as made:
        rows = [Rows.random(i, DIMENSION) for i in range(len(ALL))]
        for name, each in zip(ALL, rows, strict=True):
            each.write(made.folder / name)
        initial = network.weight.detach().double().numpy().ravel()
        yield story(made, rows, initial)


def story(made: ProcessFederation, rows: list[Rows], initial: np.ndarray) -> Told:
    made.gate(3)
    appliance = made.start_appliance()
    first_boot, rounds = made.ready, {}
    silos = {name: made.start_silo(name) for name in ALL}

    # A silo in the middle of a round: the others go on at the deadline.
    rounds["silo killed in mid-round"] = 4
    silos["silo-1"].wait_for("round", round=4)
    silos["silo-1"].kill()
    made.gate(4)
    # Meanwhile somebody comes with another agreement.
    changed_digest = made.change_a_byte("silo-3", "changed.toml")
    made.write_silo("silo-3", made.ports, file="other.toml", agreement="changed.toml", state="other")
    stranger = made.start_silo("silo-3", file="other.toml")
    made.wait_published(4)
    silos["silo-1"] = made.start_silo("silo-1")
    silos["silo-1"].wait_for("enrolled")

    # A silo whose update was accepted and whose outcome it doesn't know.
    rounds["silo killed with an update out"] = number = made.published()[-1] + 3
    made.gate(number - 1)
    made.gate(number, "silo-2")
    silos["silo-2"].wait_for("submitted", round=number)
    silos["silo-2"].kill()
    made.gate(number)
    made.wait_published(number)
    silos["silo-2"] = made.start_silo("silo-2")
    silos["silo-2"].wait_for("enrolled")

    # The enclave, then the gateway, while three of four updates are there.
    made.gate(number + 2)
    made.wait_published(number + 2)
    after = {}
    for who in ("enclave", "gateway"):
        rounds[f"{who} killed"] = number = made.published()[-1] + 1
        made.gate(number, *ALL[:3])
        for name in ALL[:3]:
            silos[name].wait_for("submitted", round=number)
        said = len(appliance.events)
        made.kill_child(who)
        made.ready = after[who] = appliance.wait_for("ready", since=said)
        made.gate(number)
        made.wait_published(number)

    # The operator stops the appliance, and starts it again.
    rounds["appliance stopped"] = number = made.published()[-1] + 1
    for name in ALL:
        silos[name].wait_for("round", round=number)
    appliance.signal(signal.SIGTERM)
    codes = [appliance.exit_code()]
    again = made.start_appliance()
    made.gate(ROUNDS)
    silo_codes = exit_codes(list(silos.values()))
    again.signal(signal.SIGTERM)
    codes.append(again.exit_code())
    return Told(
        federation=made,
        rows=rows,
        initial=initial,
        changed_digest=changed_digest,
        stranger=stranger,
        first_boot=first_boot,
        after_enclave=after["enclave"],
        after_gateway=after["gateway"],
        appliance_codes=codes,
        silo_codes=silo_codes,
        rounds=rounds,
        log=appliance.errors + again.errors,
    )


def oracle(told: Told) -> Result:
    terms = Oracle(rows=told.rows, weights=WEIGHTS, steps=STEPS, eta=ETA, server_eta=SERVER_ETA)
    return terms.run(told.initial, cohorts(told.federation))


def test_every_round_is_published_once_and_the_audit_passes(told: Told) -> None:
    made = told.federation
    assert made.published() == list(range(1, ROUNDS + 1))
    verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml", party="silo-0")
    assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")


def test_all_silos_end_well_with_the_same_model(told: Told) -> None:
    assert told.silo_codes == dict.fromkeys(ALL, 0)
    finals = {(told.federation.folder / name / "final.json").read_text() for name in ALL}
    assert len(finals) == 1


def test_the_final_model_is_the_oracles(told: Told) -> None:
    expected = oracle(told)
    assert expected.travelled > 1
    expected.check_model(final_model(told.federation, "silo-0"))


@pytest.mark.parametrize("silo", range(len(ALL)))
def test_each_silo_holds_the_oracles_control_variate(told: Told, silo: int) -> None:
    oracle(told).check_control(silo, own_control(told.federation, ALL[silo]))
    assert not told.federation.entries(ControlReset)


def test_a_silo_killed_in_mid_round_is_left_out_and_comes_back(told: Told) -> None:
    killed_in = told.rounds["silo killed in mid-round"]
    assert cohorts(told.federation)[killed_in - 1] == [0, 2, 3]
    assert any(1 in cohort for cohort in cohorts(told.federation)[killed_in:])


def test_the_update_of_a_silo_killed_after_it_counts_and_is_its_parent(told: Told) -> None:
    number = told.rounds["silo killed with an update out"]
    accepted = [entry for entry in told.federation.entries(UpdateAccepted) if entry.silo == "silo-2"]
    out = next(entry for entry in accepted if entry.round == number)
    following = next(entry for entry in accepted if entry.round > number)
    assert 2 in cohorts(told.federation)[number - 1]
    assert following.parent == out.upload_id


@pytest.mark.parametrize("what", ["enclave killed", "appliance stopped"])
def test_what_was_out_when_the_enclave_went_is_abandoned_and_the_round_tried_again(told: Told, what: str) -> None:
    number = told.rounds[what]
    restarts = [entry for entry in told.federation.entries(RoundAbandoned) if entry.reason == "restart"]
    published = next(entry for entry in told.federation.entries(RoundPublished) if entry.round == number)
    assert [entry.round for entry in restarts].count(number) == 1
    assert published.attempt > 1


def test_a_killed_gateway_loses_nothing_that_was_accepted(told: Told) -> None:
    number = told.rounds["gateway killed"]
    abandoned = [entry for entry in told.federation.entries(RoundAbandoned) if entry.round == number]
    assert not abandoned
    assert len(cohorts(told.federation)[number - 1]) == 4


def test_the_supervisor_starts_what_was_killed_and_says_so(told: Told) -> None:
    first, enclave, gateway = told.first_boot, told.after_enclave, told.after_gateway
    assert (first["enclave_restarts"], first["gateway_restarts"]) == (0, 0)
    assert (enclave["enclave_restarts"], enclave["gateway_restarts"]) == (1, 0)
    assert (gateway["enclave_restarts"], gateway["gateway_restarts"]) == (1, 1)
    assert enclave["enclave_pid"] != first["enclave_pid"]
    assert gateway["gateway_pid"] != first["gateway_pid"]
    assert gateway["enclave_pid"] == enclave["enclave_pid"]
    assert len({str(boot["boot_id"]) for boot in (first, enclave, gateway)}) == 2
    assert told.appliance_codes == [0, 0]
    assert len(told.federation.entries(ApplianceStarted)) == 3
    assert "supervisor | event=restart child=enclave count=1" in told.log
    assert "supervisor | event=restart child=gateway count=1" in told.log


def test_a_silo_with_another_agreement_is_refused_with_both_digests(told: Told) -> None:
    ours = f"sha256:{told.federation.agreement.digest.hex()}"
    assert told.stranger.exit_code() == 3
    assert f"agreement-mismatch: expected agreement {ours}, found agreement {told.changed_digest}" in (
        told.stranger.errors
    )
    refused = told.stranger.events[-1]
    assert (refused["event"], refused["code"]) == ("refused", "agreement-mismatch")
    assert Counter(event["event"] for event in told.stranger.events)["enrolled"] == 0
