"""The front door stays light: help and the auditor's commands work where neither torch, numpy nor grpc is installed."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from strongroom import cli

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
HEAVY = ("torch", "numpy", "grpc", "safetensors", "google.protobuf")
PROGRAM = """
import json, sys
absent, heavy, arguments = map(json.loads, sys.argv[1:])
sys.modules.update(dict.fromkeys(absent))
sys.argv = ["strongroom", *arguments]
import strongroom.cli
try:
    strongroom.cli.main()
finally:
    print("loaded:", [name for name in heavy if sys.modules.get(name)], file=sys.stderr)
"""


def run(*arguments: str, absent: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in an interpreter of its own, where importing one of `absent` fails."""
    command = [sys.executable, "-c", PROGRAM, *map(json.dumps, (absent, HEAVY, arguments))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def agreement(tmp_path: Path) -> str:
    path = tmp_path / "federation.toml"
    path.write_text(EXAMPLES["good_agreement"]())
    return str(path)


def test_help_imports_no_subcommand_and_nothing_heavy() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "agreement  Check a federation's agreement" in result.stdout
    assert "loaded: []" in result.stderr


def test_agreement_check_imports_nothing_heavy(agreement: str) -> None:
    result = run("agreement", "check", agreement)
    assert result.returncode == 0, result.stderr
    assert "loaded: []" in result.stderr


def test_agreement_check_works_in_a_base_install(agreement: str) -> None:
    result = run("agreement", "check", agreement, absent=HEAVY)
    assert result.returncode == 0, result.stderr


def test_a_missing_dependency_is_named_with_its_extra(tmp_path: Path) -> None:
    task = tmp_path / "task.py"
    task.write_text("def build_model(): pass\n")
    result = run("agreement", "model", str(task), absent=("torch",))
    assert result.returncode == 1
    message = "Error: strongroom agreement: expected the package 'torch', found none; pip install 'strongroom[silo]'\n"
    assert message in result.stderr


def test_commands_of_the_house_are_listed_in_order() -> None:
    context = click.Context(cli.cli)
    assert cli.cli.list_commands(context) == ["agreement", "appliance", "attest", "audit", "demo", "silo", "witness"]


@pytest.mark.parametrize("name", ["agreement", "appliance", "attest", "audit", "demo", "silo", "witness"])
def test_the_static_help_is_what_the_command_says_of_itself(name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command is not None
    static = cli.cli.commands_help[name]
    assert (command.help or "").strip().splitlines()[0] == static


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli.cli, ["agreements"])
    assert result.exit_code == 2
    assert "No such command 'agreements'" in result.stderr


def test_names_complete_without_imports() -> None:
    items = cli.cli.shell_complete(click.Context(cli.cli), "a")
    assert [item.value for item in items] == ["agreement", "appliance", "attest", "audit"]


def test_the_version_is_the_packages() -> None:
    result = CliRunner().invoke(cli.cli, ["--version"], prog_name="strongroom")
    assert result.output.startswith("strongroom, version 0.")
