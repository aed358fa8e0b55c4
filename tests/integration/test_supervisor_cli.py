"""`strongroom appliance`: what is wrong with the files is said before anything is started."""

import json
from pathlib import Path

import pytest
from agreement_examples import good_agreement
from click.testing import CliRunner, Result

from appliance import supervisor
from protocol.layout import Layout, Role, Tensor
from strongroom.cli import cli

LAYOUT = Layout(tensors=(Tensor(name="w", shape=(5,), dtype="float32", role=Role.PARAMETER),))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def start(*_: object) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(supervisor.Supervisor, "run", start)
    agreement = good_agreement().replace("11" * 32, LAYOUT.digest.hex())
    (tmp_path / "federation.toml").write_text(agreement)
    (tmp_path / "layout.json").write_bytes(LAYOUT.encode())
    (tmp_path / "appliance.toml").write_text(
        'agreement = "federation.toml"\nlayout = "layout.json"\nstore = "store"\n'
        '[listen]\nenrolment = "127.0.0.1:0"\nfederation = "127.0.0.1:0"\n'
    )
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["appliance", *arguments, "--config", str(folder / "appliance.toml")])


def refused(result: Result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr


def test_no_configuration(folder: Path) -> None:
    (folder / "appliance.toml").unlink()
    assert "appliance.toml: expected a readable file, found No such file" in refused(run(folder, "serve"))


def test_a_misspelt_key(folder: Path) -> None:
    file = folder / "appliance.toml"
    file.write_text(file.read_text().replace("store =", "stor ="))
    assert refused(run(folder, "serve")) == "appliance.toml: store: expected a string, found no such key\n"
    assert refused(run(folder, "status")) == "appliance.toml: store: expected a string, found no such key\n"


def test_an_agreement_that_is_none(folder: Path) -> None:
    (folder / "federation.toml").write_text("rounds = 1")
    assert "[federation]" in refused(run(folder, "serve")) or "federation: expected" in refused(run(folder, "serve"))


def test_a_layout_that_the_agreement_does_not_name(folder: Path) -> None:
    other = Layout(tensors=(Tensor(name="w", shape=(6,), dtype="float32", role=Role.PARAMETER),))
    (folder / "layout.json").write_bytes(other.encode())
    said = refused(run(folder, "serve"))
    assert LAYOUT.digest.hex() in said
    assert other.digest.hex() in said


def test_a_layout_that_is_none(folder: Path) -> None:
    (folder / "layout.json").write_bytes(b"{}")
    assert "layout.json: layout" in refused(run(folder, "serve"))


def test_nobody_is_running(folder: Path) -> None:
    assert "expected a running appliance, found none" in refused(run(folder, "status"))


def test_the_measurement_is_that_of_the_code() -> None:
    result = CliRunner().invoke(cli, ["appliance", "measure", "--json"])
    found = json.loads(result.stdout)
    assert found["tee"] == "simulated"
    assert len(bytes.fromhex(found["measurement"])) == 48
