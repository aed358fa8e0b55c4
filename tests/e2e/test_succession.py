"""A federation that changes its agreement, as its people do it: every step a command, every process a real one."""

import json
from collections.abc import Iterator

import pytest
import torch
from least_squares_oracle import TASK, Rows
from process_federation import ProcessFederation, exit_codes, federation
from safetensors.torch import save_file

from audit.entries import LogGenesis, LogSuperseded

OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")


@pytest.fixture(scope="module")
def made() -> Iterator[ProcessFederation]:
    torch.manual_seed(5)
    network = torch.nn.Linear(3, 1, bias=False)
    with federation(network=network, task=TASK, replace={"rounds = 40": "rounds = 4"}, owners=OWNERS) as made:
        for name in made.names:
            Rows.random(1, 3).write(made.folder / name)
        yield made


def test_a_federation_goes_on_under_its_next_agreement(made: ProcessFederation) -> None:
    made.gate(2)
    appliance = made.start_appliance()
    silos = [made.start_silo(name) for name in made.names]
    for silo in silos:
        silo.wait_for("outcome", round=2)
    for run in (*silos, appliance):
        run.kill()

    # Somebody writes the next agreement: fewer local steps, from the model that was reached.
    blocks = made.command("agreement", "predecessor", "federation.toml", "store")
    assert blocks.returncode == 0, blocks.stderr
    old = made.agreement.source.decode()
    head, _, rest = old.partition("[model]")
    text = head + blocks.stdout + "\n[training]" + rest.partition("[training]")[2]
    text = text.replace("local_steps = 10", "local_steps = 5").replace("example/digits", "example/digits-2")
    for party in ("appliance", *made.names):
        (made.folder / party / "next.toml").write_text(text)

    told = made.command("agreement", "diff", "federation.toml", "next.toml")
    assert told.returncode == 0
    assert "training.local_steps: 10 → 5" in told.stdout
    assert "NEW succeeds OLD after round 2" in told.stdout

    # Three of four approve: the operator is told whose approval is missing, and nothing has ended.
    approvals = made.folder / "appliance" / "approvals"
    approvals.mkdir()
    serve = ("appliance", "serve", "--json", "--successor", "next.toml", "--approvals", "approvals")
    for name in made.names:
        if name == made.names[-1]:
            refused = made.command(*serve)
            assert refused.returncode == 3
            assert f"found none of {name}" in refused.stderr
        out = approvals / f"{name}.approval"
        approved = made.command("agreement", "approve", "next.toml", "--yes", "--out", out, party=name)
        assert approved.returncode == 0, approved.stderr
        assert "says the same of round 2" in approved.stderr
    assert not made.entries(LogSuperseded)

    # The old log ends; its silos cosign that, and get the last model.
    appliance = made.run("appliance", *serve)
    made.ready = appliance.wait_for("ready")
    silos = [made.start_silo(name) for name in made.names]
    assert set(exit_codes(silos).values()) == {0}
    (end,) = made.entries(LogSuperseded)
    assert silos[0].wait_for("finished")["successor"] == f"sha256:{end.successor.hex()}"
    appliance.kill()
    assert made.command("audit", "verify", "store", "--agreement", "federation.toml").returncode == 0
    weights = json.loads((made.folder / "silo-0" / "final.json").read_text())
    save_file({key: torch.tensor(value) for key, value in weights.items()}, made.folder / "initial.safetensors")

    # The new one begins where it ended.
    for name in made.names:
        made.write_silo(name, made.ports, file="next-silo.toml", agreement="next.toml", state="next-state")
    made.write_appliance(made.ports, file="next-appliance.toml", store="next-store", agreement="next.toml")
    config = made.folder / "appliance" / "next-appliance.toml"
    refused = made.command("appliance", "serve", "--config", config)
    assert refused.returncode == 3
    assert "name its store in appliance.toml" in refused.stderr
    config.write_text('predecessor = "store"\n' + config.read_text())
    made.gate(4)
    appliance = made.serve("next-appliance.toml")
    appliance.wait_for("ready")
    silos = [made.start_silo(name, file="next-silo.toml") for name in made.names]
    assert set(exit_codes(silos).values()) == {0}
    appliance.kill()

    store = made.folder / "appliance" / "next-store"
    genesis = made.log(store)[0]
    assert isinstance(genesis, LogGenesis)
    assert genesis.predecessor is not None
    assert genesis.predecessor.rounds == 2
    audit = ("audit", "verify", "next-store", "--agreement", "next.toml", "--predecessor", "store", "--json")
    report = made.command(*audit)
    assert report.returncode == 0, report.stdout
    assert [found["verdict"] for found in json.loads(report.stdout)["predecessors"]] == ["PASS"]
