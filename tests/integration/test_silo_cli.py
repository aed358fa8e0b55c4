"""`strongroom silo …` as a person or a script calls it: what it prints, where, and the exit codes."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agreement_examples import good_agreement
from audit_history import to_directory
from click.testing import CliRunner, Result
from memory_federation import agreement_for, initial_sections, signing_key
from silo_threads import Loop, QueueChannel, World, world

from attestation import Evidence
from attestation.collect.errors import CollectionFailed
from attestation.collect.platform import SimulatedPlatform
from audit.store import MemoryStore
from protocol.agreement import Agreement
from protocol.fields import format_digest
from silo_client import notice, opening
from silo_client.identity import create_identity, read_identity
from silo_client.initial_model import encode_initial_model
from strongroom.cli import cli
from strongroom.commands.silo import command

MEASUREMENT = bytes.fromhex("5a" * 48)
SCRIPT = """
import sys
import torch
import strongroom

model = torch.nn.Sequential()
model.layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
with strongroom.silo("elsewhere.toml") as silo:
    for round in silo.rounds():
        model.load_state_dict(round.state_dict())
        optimizer = round.local_optimizer(torch.optim.SGD(model.parameters(), lr=round.learning_rate))
        optimizer.zero_grad()
        model.layers(torch.ones(4, 2)).sum().backward()
        optimizer.step()
        {body}
        round.submit(model, metrics={{"loss": 1.5}})
        print("submitted by", sys.argv[1:])
    assert silo.final_state_dict()
"""


@pytest.fixture(autouse=True)
def _fresh_notice() -> None:
    notice._said.clear()


def run(*arguments: object, cwd: Path | None = None) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


class TestInit:
    def test_it_makes_a_key_and_prints_a_block_that_the_agreement_takes(self, tmp_path: Path) -> None:
        key = tmp_path / "mine.key"
        result = run("init", "silo-0", "--owner", "owner-x", "--jurisdiction", "CH", "--weight", "2.5", "--key", key)
        assert result.exit_code == 0
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert f"wrote {key}" in result.stderr
        head, _, rest = good_agreement().partition('[[silo]]\nname = "silo-0"')
        text = head + result.stdout + "[[silo]]" + rest.partition("[[silo]]")[2]
        silo = Agreement.parse(text.encode(), "federation.toml").silo("silo-0")
        assert silo.identity == read_identity(key).public
        assert (silo.owner, silo.jurisdiction, silo.weight, silo.needs_evidence) == ("owner-x", "CH", 2.5, False)
        assert str(read_identity(key).seed()) not in result.output

    def test_simulated_evidence_is_marked(self, tmp_path: Path) -> None:
        result = run("init", "silo-0", "--tee", "simulated", "--key", tmp_path / "k")
        assert 'tee = "simulated"' in result.stdout
        assert "THIS PROTECTS NOTHING" in result.stderr

    def test_an_existing_key_is_not_overwritten(self, tmp_path: Path) -> None:
        key = tmp_path / "k"
        create_identity(key, bytes(32))
        result = run("init", "silo-0", "--key", key)
        assert result.exit_code == 2
        assert "an identity key is never overwritten" in result.stderr
        assert result.stdout == ""

    @pytest.mark.parametrize(
        "arguments",
        [("Silo",), ("s", "--owner", "Über"), ("s", "--jurisdiction", "the moon"), ("s", "--weight", "0")],
    )
    def test_what_the_agreement_would_refuse(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        result = run("init", *arguments, "--key", tmp_path / "k")
        assert result.exit_code == 2
        assert not (tmp_path / "k").exists()


@pytest.fixture
def there() -> Iterator[World]:
    with world({"rounds = 40": "rounds = 2"}) as made:
        yield made


@pytest.fixture
def config(there: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """silo-0's files; its channel leads to the world's enclave."""
    (tmp_path / "federation.toml").write_bytes(there.agreement.source)
    (tmp_path / "layout.json").write_bytes(there.layout.encode())
    (tmp_path / "initial.safetensors").write_bytes(encode_initial_model(there.layout, initial_sections(there.layout)))
    create_identity(tmp_path / "silo-0.key", signing_key("silo-0").seed())
    file = tmp_path / "silo.toml"
    file.write_text(
        'name = "silo-0"\nagreement = "federation.toml"\nlayout = "layout.json"\n'
        'initial_model = "initial.safetensors"\nidentity = "silo-0.key"\nstate = "state"\n'
        '[appliance]\nenrolment = "127.0.0.1:1"\nfederation = "127.0.0.1:1"\n'
    )

    def channel(**arguments: object) -> QueueChannel:
        there.channels["silo-0"] = QueueChannel(there, "silo-0", None)
        return there.channels["silo-0"]

    monkeypatch.setattr(opening, "GrpcChannel", channel)
    monkeypatch.setattr(opening, "_platform", lambda terms, config: SimulatedPlatform(MEASUREMENT))
    monkeypatch.setattr(opening, "_now", lambda: there.now)
    return file


class TestEnroll:
    def test_it_says_what_was_proved(self, there: World, config: Path) -> None:
        result = run("enroll", "--config", config, "--json")
        assert result.exit_code == 0
        found = json.loads(result.stdout)
        assert found["silo"] == "silo-0"
        assert found["agreement"] == format_digest(there.agreement.digest)
        assert found["boot_id"] == there.enclave.describe().boot_id.hex()
        assert result.stderr.count("THIS PROTECTS NOTHING") == 1
        assert "silo-0 is admitted to 'digits'." in run("enroll", "--config", config).stdout

    def test_out_of_reach(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        result = run("enroll", "--config", config)
        assert result.exit_code == 1
        assert "127.0.0.1:1: Connection refused" in result.stderr

    def test_a_machine_without_the_agreed_tee(
        self, there: World, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()
        agreement = agreement_for(there.layout, owners=there.agreement.owners, tee="sev-snp")
        (config.parent / "federation.toml").write_bytes(agreement.source)
        result = run("enroll", "--config", config)
        assert result.exit_code == 2
        assert "silo.toml: silo-0: TEE: expected one that the agreement accepts, found none on this" in result.stderr
        assert "/dev/sev-guest: no such device" in result.stderr

    def test_a_tee_that_makes_no_evidence(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken(SimulatedPlatform):
            def evidence(self, report_data: bytes) -> Evidence:
                raise CollectionFailed("/dev/sev-guest: gone")

        monkeypatch.setattr(opening, "_platform", lambda terms, config: Broken(MEASUREMENT))
        result = run("enroll", "--config", config)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (
            2,
            "this machine's TEE makes no evidence: /dev/sev-guest: gone",
        )

    def test_an_agreement_that_differs_by_a_byte(self, there: World, config: Path) -> None:
        file = config.with_name("federation.toml")
        file.write_bytes(file.read_bytes().replace(b"# An example.", b"# An Example."))
        result = run("enroll", "--config", config)
        assert result.exit_code == 3
        ours = format_digest(Agreement.parse(file.read_bytes(), "x").digest)
        assert f"expected agreement {format_digest(there.agreement.digest)}, found agreement {ours}" in result.stderr

    def test_a_second_genesis(self, there: World, config: Path) -> None:
        assert run("enroll", "--config", config).exit_code == 0
        there.store = MemoryStore()
        there.boot()
        result = run("enroll", "--config", config)
        assert result.exit_code == 4
        assert "a second genesis under the same agreement" in result.stderr
        kept = [path.name for path in (config.parent / "state").rglob("evidence/*/*")]
        assert "theirs.note" in kept

    @pytest.mark.parametrize("missing", ["silo.toml", "federation.toml", "layout.json", "silo-0.key"])
    def test_files_that_are_missing(self, config: Path, missing: str) -> None:
        config.with_name(missing).unlink()
        result = run("enroll", "--config", config)
        assert result.exit_code == 2
        assert missing in result.stderr
        assert "Traceback" not in result.stderr

    def test_one_process_a_state(self, config: Path) -> None:
        from silo_client.config import SiloConfig

        with opening.alone(SiloConfig.load(config)):
            result = run("enroll", "--config", config)
        assert result.exit_code == 2
        assert "state: expected a folder that no other process of this silo uses" in result.stderr


class TestStatusAndReceipts:
    def test_before_anything(self, config: Path) -> None:
        found = json.loads(run("status", "--config", config, "--json").stdout)
        assert (found["log_key"], found["log_size"], found["receipts"]) == (None, 0, 0)
        assert "no receipts yet" in run("receipts", "--config", config).stdout

    def test_after_a_federation(self, there: World, config: Path, tmp_path: Path) -> None:
        train(there, config, tmp_path)
        found = json.loads(run("status", "--config", config, "--json").stdout)
        assert found["last_sealed"] == {"round": 2, "attempt": 1}
        assert found["pending"] is None
        assert found["has_control"] is True
        assert "last used" in run("status", "--config", config).stdout
        rows = json.loads(run("receipts", "--config", config, "--json").stdout)
        kinds = [row["kind"] for row in rows]
        assert kinds == [
            "silo.admitted",
            *["update.accepted", "round.published"] * 2,
        ]
        assert all(row["owners"] >= 3 for row in rows if row["kind"] == "round.published")
        assert "round 2.1" in run("receipts", "--config", config).stdout

    def test_its_head_and_all_that_it_keeps_go_together_with_the_appliances_store(
        self, there: World, config: Path, tmp_path: Path
    ) -> None:
        assert "found none yet" in run("head", "--config", config).stderr
        train(there, config, tmp_path)
        note = tmp_path / "head.note"
        note.write_text(run("head", "--config", config).stdout)
        store = to_directory(there.store, tmp_path / "store")
        audit = CliRunner()
        options = ["--agreement", str(tmp_path / "federation.toml")]
        verified = audit.invoke(cli, ["audit", "verify", str(store), *options, "--head", str(note)])
        assert verified.exit_code == 0, verified.output
        for one in (config, note):
            compared = audit.invoke(cli, ["audit", "compare", str(one), str(store)])
            assert compared.exit_code == 0, compared.output
        # A note alone has nobody who vouches for its key; the silo's own state has the evidence that it appraised.
        assert audit.invoke(cli, ["audit", "compare", str(note), str(note), *options]).exit_code == 2
        compared = audit.invoke(cli, ["audit", "compare", str(note), str(config)])
        assert (compared.exit_code, "the same head of" in compared.output) == (0, True)
        status = json.loads(run("status", "--config", config, "--json").stdout)
        receipt = next((config.parent / "state").rglob("*round.published.tlog-proof"))
        entry = receipt.with_name(receipt.name.replace(".tlog-proof", ".entry.json"))
        for key in (["--log-key", status["log_key"]], ["--vouch", str(config)]):
            checked = audit.invoke(cli, ["audit", "check-receipt", str(receipt), str(entry), *options, *key])
            assert checked.exit_code == 0, checked.output

    def test_a_receipt_that_was_changed(self, config: Path) -> None:
        run("enroll", "--config", config)
        (entry,) = (config.parent / "state").rglob("*.entry.json")
        entry.write_bytes(entry.read_bytes().replace(b'"CH"', b'"DE"'))
        result = run("receipts", "--config", config)
        assert result.exit_code == 3
        assert "inclusion: expected the signed root" in result.stderr


def train(there: World, config: Path, tmp_path: Path, *arguments: str, body: str = "pass", others: int = 3) -> Result:
    """Run the script as silo-0, with the other silos in threads."""
    script = tmp_path / "task.py"
    script.write_text(SCRIPT.format(body=body))
    loops = [Loop(there, f"silo-{index}", initial=False) for index in range(1, 1 + others)]
    for loop in loops:
        loop.start()
    try:
        return run("train", "--config", config, *arguments, script, "--x", "1")
    finally:
        for loop in loops:
            loop.silo.close()


class TestTrain:
    def test_a_script_runs_to_the_end_as_main(self, there: World, config: Path, tmp_path: Path) -> None:
        result = train(there, config, tmp_path, body="assert __name__ == '__main__'")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("submitted by ['--x', '1']") == 2
        for line in ("round 1 of 2, attempt 1", "round 2: the update was accepted", "the federation has ended after 2"):
            assert line in result.stdout
        assert result.stderr.count("THIS PROTECTS NOTHING") == 1

    def test_json_lines_alone_on_stdout(self, there: World, config: Path, tmp_path: Path) -> None:
        result = train(there, config, tmp_path, "--json")
        events = [json.loads(line) for line in result.stdout.splitlines()]
        assert [event["event"] for event in events if event["event"] != "initial-model"] == [
            "enrolled",
            *["round", "submitted", "outcome"] * 2,
            "finished",
        ]
        assert next(event for event in events if event["event"] == "round")["round"] == 1
        assert "submitted by" in result.stderr

    def test_the_scripts_own_error_is_shown_from_its_first_line(
        self, there: World, config: Path, tmp_path: Path
    ) -> None:
        result = train(there, config, tmp_path, body="1 / 0")
        assert result.exit_code == 1
        assert "ZeroDivisionError" in result.stderr
        assert (
            "task.py"
            in result.stderr.split("\n")[result.stderr.split("\n").index("Traceback (most recent call last):") + 1]
        )
        assert "runpy" not in result.stderr

    def test_a_misuse_shows_the_line(self, there: World, config: Path, tmp_path: Path) -> None:
        result = train(there, config, tmp_path, body="continue")
        assert result.exit_code == 1
        assert "expected round.submit(model) before the next round, found none" in result.stderr
        assert "for round in silo.rounds():" in result.stderr

    def test_its_own_exit_code(self, there: World, config: Path, tmp_path: Path) -> None:
        assert train(there, config, tmp_path, body="sys.exit(7)").exit_code == 7
        result = train(there, config, tmp_path, body="sys.exit('enough')")
        assert (result.exit_code, "enough" in result.stderr) == (1, True)

    def test_a_refusal(self, config: Path, there: World, tmp_path: Path) -> None:
        file = config.with_name("federation.toml")
        file.write_bytes(file.read_bytes() + b"#\n")
        result = train(there, config, tmp_path, "--json", others=0)
        assert result.exit_code == 3
        (event,) = [json.loads(line) for line in result.stdout.splitlines()]
        assert (event["event"], event["code"]) == ("refused", "agreement-mismatch")
        assert "Traceback" not in result.stderr

    def test_a_broken_log(self, there: World, config: Path, tmp_path: Path) -> None:
        run("enroll", "--config", config)
        there.store = MemoryStore()
        there.boot()
        result = train(there, config, tmp_path, others=0)
        assert result.exit_code == 4
        assert "other-log: " in result.stderr

    def test_files_that_are_wrong(self, there: World, config: Path, tmp_path: Path) -> None:
        config.with_name("layout.json").write_bytes(b"{}")
        result = train(there, config, tmp_path, others=0)
        assert result.exit_code == 2
        assert "silo.toml: layout: expected a layout.json" in result.stderr

    @pytest.mark.parametrize(
        ("text", "found"), [(None, "expected a readable file"), ("def f(:\n", "expected Python, found")]
    )
    def test_a_script_that_is_none(self, tmp_path: Path, text: str | None, found: str) -> None:
        script = tmp_path / "task.py"
        if text is not None:
            script.write_text(text)
        result = run("train", script)
        assert result.exit_code == 2
        assert found in result.stderr

    def test_names_beside_the_script_do_not_take_the_place_of_ours(
        self, there: World, config: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "protocol.py").write_text("raise RuntimeError('shadowed')")
        (tmp_path / "audit").mkdir()
        (tmp_path / "audit" / "__init__.py").write_text("raise RuntimeError('shadowed')")
        (tmp_path / "mine.py").write_text("NUMBER = 3")
        result = train(there, config, tmp_path, body="import mine; assert mine.NUMBER == 3")
        assert result.exit_code == 0, result.output


def test_what_asks_nobody_needs_neither_torch_nor_grpc(config: Path) -> None:
    program = (
        "import sys; from strongroom.commands.silo import command\n"
        f"command(['status', '--config', {str(config)!r}], standalone_mode=False)\n"
        f"command(['receipts', '--config', {str(config)!r}], standalone_mode=False)\n"
        f"command(['init', 'x', '--key', {str(config.with_name('x.key'))!r}], standalone_mode=False)\n"
        "print([name for name in ('torch', 'grpc', 'numpy', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_api_is_lazy() -> None:
    program = (
        "import sys, strongroom\n"
        "assert 'torch' not in sys.modules and 'grpc' not in sys.modules\n"
        "assert callable(strongroom.silo)\n"
        "assert {'silo', 'simulate'} <= set(dir(strongroom))\n"
        "try:\n    strongroom.nothing\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'strongroom' has no attribute 'nothing'\n"
