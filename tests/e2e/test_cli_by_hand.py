"""What somebody sees who types the commands and gets something wrong: one clean line, and the documented exit code.

What goes wrong before anything is started runs in this process; what needs a clock, a port or a signal, in real ones.
"""

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from least_squares_oracle import TASK, Rows
from process_federation import ProcessFederation, Running, federation, wait_until

from silo_client.config import SiloConfig, SiloConfigError
from silo_client.opening import silo
from strongroom.cli import cli
from strongroom.commands.silo_exit import failure_of

OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
NOTHING_PROTECTED = "THIS PROTECTS NOTHING"


@pytest.fixture(scope="module")
def made() -> Iterator[ProcessFederation]:
    torch.manual_seed(5)
    network = torch.nn.Linear(3, 1, bias=False)
    with federation(network=network, task=TASK, replace={}, owners=OWNERS) as made:
        for name in made.names:
            Rows.random(1, 3).write(made.folder / name)
        folder = made.folder / "silo-0"
        (folder / "open.key").write_bytes((folder / "silo-0.key").read_bytes())
        (folder / "open.key").chmod(0o644)
        (folder / "other.key").write_bytes((made.folder / "silo-1" / "silo-1.key").read_bytes())
        (folder / "other.key").chmod(0o600)
        (folder / "bad.key").write_text("a key\n")
        (folder / "bad.key").chmod(0o600)
        (folder / "file").write_text("")
        for party in ("silo-0", "appliance"):
            layout = (made.folder / party / "layout.json").read_text()
            (made.folder / party / "other.json").write_text(layout.replace("[1,3]", "[1,4]"))
        yield made


def told(result: Result) -> str:
    """The one line that a command ends with, beside the warning that a simulation protects nothing."""
    lines = [line for line in result.stderr.splitlines() if NOTHING_PROTECTED not in line]
    assert len(lines) == 1, result.stderr
    return lines[0]


def changed(folder: Path, source: str, old: str, new: str) -> Path:
    """A copy of a settings file with something else in it."""
    text = (folder / source).read_text()
    assert old in text
    copy = folder / f"changed-{source}"
    copy.write_text(text.replace(old, new))
    return copy


SILO_MISTAKES = [
    ("[appliance]", "[applianec]", "changed-silo.toml: appliance: expected a table, found no such key"),
    ('state = "state"', 'state = "state"\ncolour = 1', "changed-silo.toml: colour: expected no such key, found one"),
    ('state = "state"\n', "", "changed-silo.toml: state: expected a string, found no such key"),
    ('"silo-0"', '"silo-9"', "changed-silo.toml: name: expected a silo of the agreement (silo-0, silo-1, silo-2, sil"),
    ("federation.toml", "none.toml", "/none.toml: expected the agreement, found an error: No such file or directory"),
    ("layout.json", "none.json", "/none.json: expected the layout, found an error: No such file or directory"),
    ("layout.json", "other.json", "changed-silo.toml: layout: expected the agreement's layout sha256:"),
    ("silo-0.key", "none.key", "/none.key: expected an identity key, found an error: No such file or directory"),
    ("silo-0.key", "other.key", "changed-silo.toml: identity: expected the key of silo-0 in the agreement, ed25519:"),
    ("silo-0.key", "open.key", "/open.key: expected a file that only its owner reads, found mode 0644; `chmod 600 "),
    ("silo-0.key", "bad.key", '/bad.key: expected "strongroom-identity-key/1" and a line of base64 of 32 bytes, fo'),
    ('"state"', '"file"', "changed-silo.toml: state: expected a folder to write to, found "),
    ("127.0.0.1:", "127.0.0.1;", 'changed-silo.toml: [appliance] enrolment: expected "host:port", found '),
]


@pytest.mark.parametrize("command", ["train", "enroll"])
@pytest.mark.parametrize(("old", "new", "line"), SILO_MISTAKES)
def test_a_mistake_in_a_silos_files_is_one_line_and_code_2(
    made: ProcessFederation, command: str, old: str, new: str, line: str
) -> None:
    folder = made.folder / "silo-0"
    config = changed(folder, "silo.toml", old, new)
    task = [str(TASK), str(folder)] if command == "train" else []
    result = CliRunner().invoke(cli, ["silo", command, "--config", str(config), *task])
    assert result.exit_code == 2
    assert line in told(result)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (None, 2, "task.py: expected a readable file, found No such file or directory"),
        ("def f(:\n", 2, "task.py: expected Python, found invalid syntax (task.py, line 1)"),
        ("raise SystemExit('no data for today')", 1, "no data for today"),
    ],
)
def test_a_script_that_cannot_run(tmp_path: Path, text: str | None, code: int, line: str) -> None:
    if text is not None:
        (tmp_path / "task.py").write_text(text)
    result = CliRunner().invoke(cli, ["silo", "train", str(tmp_path / "task.py")])
    assert result.exit_code == code
    assert told(result).endswith(line)


def test_a_script_ends_with_its_own_code_and_a_failure_with_its_own_traceback(tmp_path: Path) -> None:
    (tmp_path / "five.py").write_text("raise SystemExit(5)")
    (tmp_path / "fails.py").write_text("\n1 / 0\n")
    assert CliRunner().invoke(cli, ["silo", "train", str(tmp_path / "five.py")]).exit_code == 5
    failed = CliRunner().invoke(cli, ["silo", "train", str(tmp_path / "fails.py")])
    assert failed.exit_code == 1
    assert failed.stderr.startswith("Traceback (most recent call last):")
    assert "fails.py" in failed.stderr.splitlines()[1]
    assert failed.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("name", ["none.safetensors", "layout.json"])
def test_an_initial_model_that_is_none_is_the_silos_mistake(made: ProcessFederation, name: str) -> None:
    """Found out when the appliance asks for it: one line and code 2, no traceback of the script's."""
    config = changed(made.folder / "silo-0", "silo.toml", "../initial.safetensors", name)
    session = silo(config)
    try:
        with pytest.raises(SiloConfigError) as refused:
            session._models.find(made.agreement.model.initial)
    finally:
        session.close()
    assert SiloConfig.load(config).initial_model == made.folder / "silo-0" / name
    assert str(refused.value).startswith(f"changed-silo.toml: initial_model: {made.folder}/silo-0/{name}: expected a ")
    assert failure_of(refused.value).exit_code == 2


APPLIANCE_MISTAKES = [
    ("[listen]", "[lisen]", "changed-appliance.toml: listen: expected a table, found no such key"),
    ('store = "store"', 'store = "store"\nspeed = 9', "changed-appliance.toml: speed: expected no such key, found one"),
    ('store = "store"', "", "changed-appliance.toml: store: expected a string, found no such key"),
    ('store = "store"', 'store = "layout.json"', "/layout.json: expected a folder, found something else"),
    ('"store"\n', '"store"\nthreads = 0\n', "changed-appliance.toml: threads: expected an integer from 1 to 256, foun"),
    ("127.0.0.1:", "here", 'changed-appliance.toml: [listen] enrolment: expected "host:port" with a port from 0 to 65'),
    ("federation.toml", "none.toml", "/none.toml: expected a readable file, found No such file or directory"),
    ("layout.json", "other.json", "/other.json: expected sha256:"),
]


@pytest.mark.parametrize(("old", "new", "line"), APPLIANCE_MISTAKES)
def test_a_mistake_in_an_appliances_files_is_one_line_and_code_2(
    made: ProcessFederation, old: str, new: str, line: str
) -> None:
    config = changed(made.folder / "appliance", "appliance.toml", old, new)
    result = CliRunner().invoke(cli, ["appliance", "serve", "--config", str(config)])
    assert result.exit_code == 2
    assert line in told(result)


@pytest.mark.parametrize(
    "command", [["appliance", "serve"], ["appliance", "status"], ["silo", "enroll"], ["silo", "status"]]
)
def test_settings_that_are_not_there(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "--config", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert told(result).startswith(f"{tmp_path}/none.toml: expected a ")
    assert "No such file or directory" in told(result)


def test_the_status_of_no_appliance(made: ProcessFederation) -> None:
    result = CliRunner().invoke(cli, ["appliance", "status", "--config", str(made.folder / "appliance/appliance.toml")])
    assert result.exit_code == 2
    assert told(result).endswith(
        "enclave.sock: expected a running appliance, found none; start it with `strongroom appliance serve`"
    )


@dataclass
class Alone:
    """Processes without an appliance to talk to."""

    train: Running
    said_before_the_end: str
    interrupted_seconds: float
    second: Running
    enroll: Running
    port_taken: Running


@pytest.fixture(scope="module")
def alone(made: ProcessFederation) -> Alone:
    folder = made.folder / "silo-2"
    train = made.run("silo-2", "silo", "train", TASK, folder)
    enroll = made.run("silo-3", "silo", "enroll")
    wait_until(lambda: "out of reach" in train.output, "the silo to say that nobody is there")
    second = made.run("silo-2", "silo", "train", TASK, folder)
    with socket.create_server(("127.0.0.1", made.ports.federation)):
        port_taken = made.serve()
        for ended in (second, enroll, port_taken):
            ended.exit_code()
    said, began = train.output, time.monotonic()
    train.signal(signal.SIGINT)
    train.exit_code()
    return Alone(train, said, time.monotonic() - began, second, enroll, port_taken)


def last_line(running: Running) -> str:
    return running.errors.splitlines()[-1]


def test_a_silo_without_an_appliance_keeps_trying_and_says_so_once(alone: Alone, made: ProcessFederation) -> None:
    where = f"127.0.0.1:{made.ports.enrolment}"
    assert alone.said_before_the_end == (f"the appliance is out of reach, trying again ({where}: Connection refused)\n")


def test_ctrl_c_ends_a_waiting_silo_at_once_without_a_traceback(alone: Alone) -> None:
    assert alone.train.exit_code() == 1
    assert alone.interrupted_seconds < 10
    assert last_line(alone.train) == "Aborted!"
    assert "Traceback" not in alone.train.errors


def test_a_second_process_on_a_silos_state_is_refused(alone: Alone) -> None:
    assert alone.second.exit_code() == 2
    assert last_line(alone.second).startswith(
        "silo.toml: state: expected a folder that no other process of this silo uses, found "
    )


def test_enrolling_where_nobody_is_says_so_and_ends_with_1(alone: Alone, made: ProcessFederation) -> None:
    assert alone.enroll.exit_code() == 1
    where = f"127.0.0.1:{made.ports.enrolment}"
    assert last_line(alone.enroll) == (
        f"the appliance is out of reach ({where}: Connection refused); is it running where silo.toml says?"
    )


def test_an_occupied_port_ends_the_appliance_with_2_and_names_it(alone: Alone, made: ProcessFederation) -> None:
    assert alone.port_taken.exit_code() == 2
    where = f"127.0.0.1:{made.ports.federation}"
    assert f"{where}: can't listen there; is another process using the port?" in alone.port_taken.errors
    assert "restart" not in alone.port_taken.errors
    assert "Traceback" not in alone.port_taken.errors
