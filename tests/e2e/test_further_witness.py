"""A federation whose agreement demands a further witness, in processes: `strongroom witness`, appliance and silos.

The witness begins before the log, is told its key by the evidence in leaf 0, is killed in the middle and comes back.
While it is away nothing is released, and everybody who asks is told why.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from process_federation import STRONGROOM, ProcessFederation, Running, exit_codes, federation, wait_until
from simulated import terms

from audit.entries import RoundOpened
from audit.log import LogReader
from audit.note import Checkpoint, VerifierKey
from audit.store import DirectoryStore
from protocol.keys import SigningKey

pytestmark = pytest.mark.slow
TASK = Path(__file__).parent / "least_squares.py"
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
NAME = "witness.example/w1"
ROUNDS = 4


@dataclass
class Story:
    """What was seen on the way; the tests look at it."""

    made: ProcessFederation
    without_address: tuple[int, str]
    key: str
    while_running: tuple[int, str]
    another_key: tuple[int, str]
    opened_while_away: int
    published_while_away: list[int]
    status_while_away: dict[str, object]
    said_while_away: str
    silos: dict[str, int]
    verified: tuple[int, str]


def told(made: ProcessFederation, *arguments: str | Path, party: str = "appliance") -> tuple[int, str]:
    done = made.command(*arguments, party=party)
    return done.returncode, (done.stdout + done.stderr).strip()


def serve(made: ProcessFederation) -> Running:
    running = made.run("witness", "witness", "serve", "--json")
    running.wait_for("ready")
    return running


def played(made: ProcessFederation, port: int) -> Story:
    appliance_folder = made.folder / "appliance"
    without_address = told(made, "appliance", "serve")
    config = appliance_folder / "appliance.toml"
    config.write_text(config.read_text() + f'\n[[witness]]\nname = "w1"\nurl = "http://127.0.0.1:{port}"\n')
    appliance = made.start_appliance()
    code, key = told(made, "audit", "key", "store", "--agreement", "federation.toml")
    assert code == 0, key
    evidence = ("--agreement", appliance_folder / "federation.toml", "--store", appliance_folder / "store")
    code, said = told(made, "witness", "add", *evidence, party="witness")
    assert (code, said) == (0, f"knows {key}")
    witness = serve(made)
    while_running = told(made, "witness", "add", "--log", key, party="witness")
    for number, name in enumerate(made.names):
        data = {"features": [[1.0, float(number)], [0.5, 1.0]], "targets": [1.0, float(number)]}
        (made.folder / name / "data.json").write_text(json.dumps(data))
    made.gate(2)
    silos = [made.start_silo(name) for name in made.names]
    made.wait_published(2)
    wait_until(lambda: all(len(seen(made, name)) == 3 for name in made.names), "round 3 to be announced")

    witness.signal(signal.SIGKILL)
    witness.exit_code()
    other = str(VerifierKey.of_log(made.agreement.log.origin, SigningKey(bytes(32)).public))
    another_key = told(made, "witness", "add", "--log", other, party="witness")
    made.gate(ROUNDS)
    made.wait_published(3)
    wait_until(lambda: "event=release-waits" in last_lines(appliance), "the enclave to wait for its witness")
    wait_until(lambda: "event=no-cosignature" in appliance.errors, "the courier to miss the witness")
    status = json.loads(told(made, "appliance", "status", "--json")[1])
    opened, published, said = len(made.entries(RoundOpened)), made.published(), appliance.errors
    for name in made.names:
        assert len(seen(made, name)) == 3, "a round was announced without its witness"

    serve(made)
    codes = exit_codes(silos)
    appliance.signal(signal.SIGTERM)
    appliance.exit_code()
    return Story(
        made=made,
        without_address=without_address,
        key=key,
        while_running=while_running,
        another_key=another_key,
        opened_while_away=opened,
        published_while_away=published,
        status_while_away=status,
        said_while_away=said,
        silos=codes,
        verified=told(made, "audit", "verify", "store", "--agreement", "federation.toml", "--json"),
    )


def seen(made: ProcessFederation, name: str) -> list[str]:
    file = made.folder / name / "seen.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def last_lines(appliance: Running) -> str:
    """What it said since the last round was published."""
    return "\n".join(appliance.errors.splitlines()[-20:])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("witness") / "w1"
    init = [*STRONGROOM, "witness", "init", NAME, "--out", str(folder), "--listen", f"127.0.0.1:{port}"]
    # Before the agreement, which names its key.
    block = subprocess.run(init, capture_output=True, text=True, check=True).stdout
    key = re.search(r'key = "(.+)"', block)
    assert key is not None
    with federation(
        network=torch.nn.Linear(2, 1, bias=False),
        task=TASK,
        replace=terms(rounds=ROUNDS, steps=3, eta=0.1),
        owners=OWNERS,
        witnesses={"w1": key[1]},
        required_witnesses=1,
    ) as made:
        shutil.move(folder, made.folder / "witness")
        yield played(made, port)


def test_an_appliance_without_the_demanded_witnesss_address_does_not_start(story: Story) -> None:
    code, said = story.without_address
    assert code == 2
    assert "addresses of at least 1 of the agreement's witnesses, found 0" in said


def test_a_witness_has_one_process_and_a_log_one_key(story: Story) -> None:
    assert story.while_running[0] == 2
    assert "stop the witness first" in story.while_running[1]
    assert story.another_key[0] == 2
    assert "a second key is a second history" in story.another_key[1]


def test_while_its_witness_is_away_nothing_is_released_and_the_reason_is_said(story: Story) -> None:
    assert story.published_while_away == [1, 2, 3]
    assert story.opened_while_away == 4
    assert story.status_while_away["waiting_for"] == ["witnesses (0 of 1; not yet: w1)"]
    assert "enclave | event=release-waits" in story.said_while_away
    assert "for=witnesses (0 of 1; not yet: w1)" in story.said_while_away
    assert "gateway | event=no-cosignature witness=w1 because=" in story.said_while_away


def test_it_comes_back_and_the_federation_ends(story: Story) -> None:
    assert set(story.silos.values()) == {0}
    assert story.made.published() == [1, 2, 3, 4]


def test_the_log_carries_its_line_and_the_audit_counts_it(story: Story) -> None:
    store = DirectoryStore(story.made.store)
    newest = Checkpoint.parse(LogReader(store).checkpoint)
    store.close()
    assert NAME in [signature.name for signature in newest.note.signatures]
    code, said = story.verified
    assert code == 0, said
    report = json.loads(said)
    assert (report["verdict"], report["divergence"]) == ("PASS", None)
    assert [vote["witness"] for vote in report["newest"]["witnesses"]] == ["w1"]
    assert story.key.startswith(f"{story.made.agreement.log.origin}+")
