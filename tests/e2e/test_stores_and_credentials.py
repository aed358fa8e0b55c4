"""A federation whose credentials last five seconds, and whose operator then tries other stores and another agreement.

The silos renew on their own. When the operator puts an older copy of the store back, they refuse it by name, and
nothing comes out of it; the newest copy is taken up again; a store that begins anew is refused, and another agreement.
"""

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from least_squares_oracle import TASK, Rows
from process_federation import Ports, ProcessFederation, Running, exit_codes, federation, stopped, wait_until

from audit.entries import ApplianceStarted, Entry, RoundOpened, RoundPublished, SiloAdmitted

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
ALL = ("silo-0", "silo-1", "silo-2", "silo-3")
CREDENTIAL_SECONDS = 5


@dataclass
class Told:
    """What the story came to."""

    federation: ProcessFederation
    first_boot: list[Entry]
    silos: dict[str, Running]
    silo_codes: dict[str, int]
    rounds_before: dict[str, int]
    old_log: list[Entry]
    rolled_back_log: list[Entry]
    old_models: dict[str, bytes]
    rolled_back_models: dict[str, bytes]
    newest: CompletedProcess[str]
    second_genesis: Running
    other_agreement: dict[str, Running]
    other_digest: str


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    torch.manual_seed(4)
    replace = {
        "rounds = 40": "rounds = 1000",
        "credential_seconds = 3600": f"credential_seconds = {CREDENTIAL_SECONDS}",
    }
    network = torch.nn.Linear(3, 1, bias=False)
    with federation(network=network, task=TASK, replace=replace, owners=OWNERS) as made:
        for i, name in enumerate(ALL):
            Rows.random(i, 3).write(made.folder / name)
        yield story(made)


def story(made: ProcessFederation) -> Told:
    made.gate(1)
    appliance = made.start_appliance()
    silos = {name: made.start_silo(name) for name in ALL}
    made.wait_published(1)
    wait_until(lambda: outlived_a_credential(made), "a round by silos that have renewed")

    # An older copy of the store (a snapshot of the disk), while the silos go on with the newest.
    store, old, newest = (made.folder / "appliance" / name for name in ("store", "old", "newest"))
    with stopped(made.ready["enclave_pid"]):
        shutil.copytree(store, old, ignore=shutil.ignore_patterns("*.sock"))
    first_boot = made.log(old)
    advance(made, 3)
    stop(appliance)
    old_log, old_models = made.log(old), bodies(old)
    rounds_before = {name: rounds_of(running) for name, running in silos.items()}
    store.rename(newest)
    old.rename(store)
    appliance = made.start_appliance()
    made.gate(1000)  # Whoever is still in training comes back to hear of it.
    silo_codes = exit_codes(list(silos.values()))
    stop(appliance)
    rolled_back_log, rolled_back_models = made.log(), bodies(store)

    # Side by side: the newest one again, none at all, and an appliance with another agreement than that of its silos.
    newest_ports, empty_ports, other_ports = Ports(), Ports(), Ports()
    other_digest = made.change_a_byte("appliance", "changed.toml")
    made.write_appliance(newest_ports, file="newest.toml", store="newest")
    made.write_appliance(empty_ports, file="empty.toml", store="empty")
    made.write_appliance(other_ports, file="other.toml", store="other", agreement="changed.toml")
    appliances = [made.serve(f"{name}.toml") for name in ("newest", "empty", "other")]
    made.write_silo("silo-0", newest_ports)
    made.write_silo("silo-1", empty_ports)
    for name in ALL[1:]:
        made.write_silo(name, other_ports, file="other.toml", state="other-state")
    for appliance in appliances:
        appliance.wait_for("ready")
    second_genesis = made.run("silo-1", "silo", "enroll")
    others = {name: made.run(name, "silo", "enroll", "--config", "other.toml") for name in ALL[1:]}
    enrolled = made.command("silo", "enroll", party="silo-0")
    exit_codes([second_genesis, *others.values()])
    return Told(
        federation=made,
        first_boot=first_boot,
        silos=silos,
        silo_codes=silo_codes,
        rounds_before=rounds_before,
        old_log=old_log,
        rolled_back_log=rolled_back_log,
        old_models=old_models,
        rolled_back_models=rolled_back_models,
        newest=enrolled,
        second_genesis=second_genesis,
        other_agreement=others,
        other_digest=other_digest,
    )


def advance(made: ProcessFederation, rounds: int) -> None:
    number = made.published()[-1] + rounds
    made.gate(number)
    made.wait_published(number)


def outlived_a_credential(made: ProcessFederation) -> bool:
    """Go on by a round; whether everybody was admitted again and the first credentials have run out since."""
    advance(made, 1)
    admitted = made.entries(SiloAdmitted)
    times = Counter(entry.silo for entry in admitted)
    first_expired = max(entry.expires for entry in admitted[: len(ALL)])
    return min(times[name] for name in ALL) > 1 and made.entries(RoundPublished)[-1].time > first_expired


def stop(appliance: Running) -> None:
    appliance.signal(signal.SIGTERM)
    assert appliance.exit_code() == 0


def rounds_of(silo: Running) -> int:
    return sum(event["event"] == "round" for event in silo.events)


def bodies(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "models").iterdir()}


def test_silos_renew_before_their_credentials_run_out(told: Told) -> None:
    admissions = [entry for entry in told.first_boot if isinstance(entry, SiloAdmitted)]
    boots = {entry.boot_id for entry in told.first_boot if isinstance(entry, ApplianceStarted)}
    assert {entry.boot_id for entry in admissions} == boots
    assert len(boots) == 1
    for name in ALL:
        own = [entry for entry in admissions if entry.silo == name]
        assert len(own) > 1
        assert all(entry.expires - entry.time == CREDENTIAL_SECONDS for entry in own)
        assert all(later.time <= earlier.expires for earlier, later in pairwise(own))
        events = told.silos[name].events
        assert not any(event["event"] == "refused" for event in events[: len(own)])


def test_rounds_go_on_past_the_first_credentials(told: Told) -> None:
    expired = max(entry.expires for entry in told.first_boot if isinstance(entry, SiloAdmitted))
    first = min(entry.expires for entry in told.first_boot if isinstance(entry, SiloAdmitted))
    late = [e for e in told.first_boot if isinstance(e, RoundPublished) and e.time > first]
    assert late
    assert all(len(entry.cohort) == len(ALL) for entry in late)
    assert expired > first


def test_a_rolled_back_store_is_refused_by_every_silo_by_name(told: Told) -> None:
    assert told.silo_codes == dict.fromkeys(ALL, 4)
    for silo in told.silos.values():
        last = silo.errors.splitlines()[-1]
        assert last.startswith("log-rolled-back: expected a log of at least the ")
        assert "; the appliance runs on an older copy of its store: restore the newest one" in last
        assert silo.events[-1]["code"] == "log-rolled-back"


def test_a_rolled_back_store_releases_nothing(told: Told) -> None:
    since = told.rolled_back_log[len(told.old_log) :]
    assert told.rolled_back_log[: len(told.old_log)] == told.old_log
    assert any(isinstance(entry, ApplianceStarted) for entry in since)
    assert not any(isinstance(entry, RoundPublished | RoundOpened | SiloAdmitted) for entry in since)
    # No body but those of before; what the snapshot caught of an unfinished merge may have been cleared away.
    assert told.rolled_back_models.items() <= told.old_models.items()
    assert told.rolled_back_models
    assert {name: rounds_of(silo) for name, silo in told.silos.items()} == told.rounds_before


def test_a_silo_keeps_both_notes_of_the_rollback(told: Told) -> None:
    folder = told.federation.folder / "silo-2"
    [evidence] = (folder / "state").glob("*/evidence/log-rolled-back-*")
    assert {path.name for path in evidence.iterdir()} == {"ours.note", "theirs.note"}
    assert evidence.name in told.silos["silo-2"].errors


def test_the_newest_store_is_taken_up_again(told: Told) -> None:
    assert told.newest.returncode == 0, told.newest.stderr
    assert told.newest.stdout.startswith("silo-0 is admitted to 'digits'.")


def test_a_store_that_begins_anew_is_refused_by_name(told: Told) -> None:
    assert told.second_genesis.exit_code() == 4
    last = told.second_genesis.errors.splitlines()[-1]
    assert last.startswith("other-log: expected the log that this silo has known from the beginning, with the key ")
    assert ", found a second genesis under the same agreement, with the key " in last
    assert "; the appliance lost or hid its history: restore its store, or make a successor agreement" in last


def test_an_appliance_with_another_agreement_is_refused_by_every_silo(told: Told) -> None:
    ours = f"sha256:{told.federation.agreement.digest.hex()}"
    for silo in told.other_agreement.values():
        assert silo.exit_code() == 3
        last = silo.errors.splitlines()[-1]
        assert last.startswith("agreement-mismatch: ")
        assert ours in last
        assert told.other_digest in last
        assert "compare the two files byte for byte (strongroom agreement digest FILE)" in last
