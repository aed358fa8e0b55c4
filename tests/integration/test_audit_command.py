"""`strongroom audit verify` and `audit show`, as an auditor runs them: words, JSON, exit codes, bare machines."""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from audit_history import LAYOUT, Recorder, agreement_of, agreement_text, honest, to_directory, told
from click.testing import CliRunner, Result

from audit.entries import RoundOpened
from audit.resources import object_name
from protocol import canonical
from strongroom.cli import cli

ROOT = Path(__file__).parents[2]
AGREEMENT = agreement_of()
HONEST = honest(AGREEMENT)
BUNDLE = "log/tile/entries/000.p/34"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return to_directory(HONEST.store(), tmp_path / "store")


@pytest.fixture
def agreement(tmp_path: Path) -> Path:
    path = tmp_path / "federation.toml"
    path.write_text(agreement_text())
    return path


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["audit", *map(str, args)])


def test_a_good_log_passes_and_says_that_it_protects_nothing(store: Path, agreement: Path) -> None:
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "PASS (simulated: protects nothing)"
    assert "entries 34, checkpoints 29, boots 2" in result.output
    assert "cosigned by alpenklinik, baltic-bank, delta-telecom" in result.output
    assert "they are sealed" in result.output


def test_the_log_directory_itself_will_do_under_any_name(store: Path, agreement: Path, tmp_path: Path) -> None:
    copy = tmp_path / "what the operator sent"
    shutil.copytree(store / "log", copy)
    result = run("verify", copy, "--agreement", agreement)
    assert result.exit_code == 0, result.output
    assert run("verify", store / "log", "--agreement", agreement).exit_code == 0


def test_one_flipped_byte_fails_and_is_named(store: Path, agreement: Path) -> None:
    flip(store / BUNDLE)
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 1
    assert result.output.splitlines()[:2] == [
        "FAIL (simulated: protects nothing)",
        f"first divergence: {BUNDLE}: entry 33 is not the one that log/tile/0/000.p/34 stands for and the log signed",
    ]


def test_a_lie_is_named_by_its_entry(agreement: Path, tmp_path: Path) -> None:
    index = HONEST.index(RoundOpened)
    store = to_directory(HONEST.with_fields(index, local_steps=99).store(), tmp_path / "store")
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 1
    line = f"first divergence: entry {index} (round.opened): local steps: expected 10, found 99"
    assert result.output.splitlines()[1] == line


def test_a_missing_object_is_incomplete_and_named(store: Path, agreement: Path) -> None:
    (store / object_name(LAYOUT.digest)).unlink()
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 2
    assert result.output.startswith("INCOMPLETE")
    assert object_name(LAYOUT.digest) in result.output


def test_json_is_the_report(store: Path, agreement: Path) -> None:
    result = run("verify", store, "--agreement", agreement, "--json")
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert report["verdict"] == "PASS"
    assert report["simulated"] is True
    assert report["divergence"] is None
    assert report["newest"]["size"] == report["newest"]["quorum_size"] == report["counts"]["entries"] == 34
    assert [cosigner["owner"] for cosigner in report["newest"]["cosigners"]] == [
        "alpenklinik",
        "baltic-bank",
        "delta-telecom",
    ]
    assert report["counts"] == {
        "entries": 34,
        "checkpoints": 29,
        "boots": 2,
        "admissions": 9,
        "refusals": 2,
        "rounds_published": 2,
        "attempts_abandoned": 2,
        "updates_used": 6,
        "updates_refused": 1,
        "control_resets": 0,
        "evidence_appraised": 11,
        "objects": 16,
    }
    assert [check["number"] for check in report["checks"]] == [1, 2, 3, 4, 5, 6, 7]
    assert {check["state"] for check in report["checks"]} == {"passed"}
    assert report["not_checked"]


def test_json_names_the_divergence(store: Path, agreement: Path) -> None:
    flip(store / BUNDLE)
    result = run("verify", store, "--agreement", agreement, "--json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert report["verdict"] == "FAIL"
    assert report["divergence"]["resource"] == BUNDLE
    assert report["divergence"]["entry"] is None


def test_a_head_that_a_silo_kept(store: Path, agreement: Path, tmp_path: Path) -> None:
    newest = (store / "log/checkpoint").read_bytes()
    kept = tmp_path / "ours.note"
    kept.write_bytes(newest)
    assert run("verify", store, "--agreement", agreement, "--head", kept).exit_code == 0
    older = to_directory(HONEST.until(30).store(), tmp_path / "older")
    assert run("verify", older, "--agreement", agreement).exit_code == 0
    result = run("verify", older, "--agreement", agreement, "--head", kept)
    assert result.exit_code == 1
    assert "ours.note: this log had 34 entries once, and now has 30" in result.output
    kept.write_bytes(newest[:-1])
    assert_one_line(run("verify", store, "--agreement", agreement, "--head", kept), "ours.note: note: expected")


# What can't be read at all: one line, exit code 2


def assert_one_line(result: Result, words: str) -> None:
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert words in result.output


def test_no_store(agreement: Path, tmp_path: Path) -> None:
    assert_one_line(run("verify", tmp_path / "none", "--agreement", agreement), "expected a readable directory")
    assert not (tmp_path / "none").exists()


def test_a_store_without_a_log(agreement: Path, tmp_path: Path) -> None:
    assert_one_line(run("verify", tmp_path, "--agreement", agreement), "found no log in it")


def test_a_store_whose_log_is_a_link(agreement: Path, store: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "log").symlink_to(store / "log")
    assert_one_line(run("verify", linked, "--agreement", agreement), "found a symbolic link")


def test_a_file_for_a_store(agreement: Path) -> None:
    assert_one_line(run("verify", agreement, "--agreement", agreement), "expected a readable directory")


def test_no_agreement(store: Path, tmp_path: Path) -> None:
    assert_one_line(run("verify", store, "--agreement", tmp_path / "none"), "expected a readable file")


def test_an_agreement_that_is_none(store: Path, agreement: Path) -> None:
    agreement.write_text(agreement_text().replace("rounds = 2", "rounds = 0"))
    assert_one_line(run("verify", store, "--agreement", agreement), "[federation] rounds: expected")


def test_an_empty_log_is_incomplete(agreement: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    result = run("verify", tmp_path, "--agreement", agreement)
    assert result.exit_code == 2
    assert "log/checkpoint: expected a checkpoint, found none" in result.output


# Links, odd names and the like


@pytest.mark.parametrize("name", ["log/checkpoints/34.note", "log/tile/0/000.p/34", BUNDLE])
def test_a_symbolic_link_is_not_followed(store: Path, agreement: Path, tmp_path: Path, name: str) -> None:
    """Not even to the right bytes: what stands behind it may be other ones by the time of the next reading."""
    outside = tmp_path / "outside"
    shutil.move(store / name, outside)
    (store / name).symlink_to(outside)
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 2
    assert f"{name}: a symbolic link" in result.output


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"log/\xff\xfe", "log/U+DCFFU+DCFE"),
        (b"log/checkpoints/\x1b[2J", "log/checkpoints/U+001B[2J"),
        (b"log/.hidden", "log/.hidden"),
        (b"log/tile/0/a b", "log/tile/0/a b"),
        (b"log/\xe2\x80\xaegpj.note", "log/U+202Egpj.note"),
    ],
)
def test_an_odd_name_is_shown_escaped(store: Path, agreement: Path, name: bytes, shown: str) -> None:
    with open(os.path.join(os.fsencode(store), name), "wb"):
        pass
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 2
    assert f"{shown}: no file that a log has" in result.output
    assert all(character.isprintable() or character == "\n" for character in result.output)
    report = json.loads(run("verify", store, "--agreement", agreement, "--json").output)
    assert [finding["resource"] for finding in report["missing"]] == [shown]


def test_special_files_and_deep_folders_hang_nothing(store: Path, agreement: Path) -> None:
    os.mkfifo(store / "log/checkpoints/35.note")
    (store / "log" / "/".join("d" * 40)).mkdir(parents=True)
    (store / "log" / "/".join("d" * 40) / "file").touch()
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 2
    assert "log/checkpoints/35.note: neither file nor folder" in result.output
    assert "a folder deeper than any of a log" in result.output


def test_what_an_interrupted_write_left_is_information(store: Path, agreement: Path) -> None:
    (store / "log/tile/.4711-3.tmp").write_bytes(b"half a ti")
    result = run("verify", store, "--agreement", agreement)
    assert result.exit_code == 0
    assert "log/tile/.4711-3.tmp: left by a write" in result.output


def test_nothing_is_written(store: Path, agreement: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    assert run("verify", store, "--agreement", agreement).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


# audit show


def test_show_prints_a_row_an_entry(store: Path) -> None:
    result = run("show", store)
    rows = result.output.splitlines()
    assert result.exit_code == 0
    assert len(rows) == 34
    assert rows[0].split()[:4] == ["0", "2026-01-01", "00:00:01", "log.genesis"]
    assert "round 1 attempt 2, cohort silo-0, silo-2, silo-4" in result.output
    assert "silo-3, evidence-refused" in result.output


def test_show_prints_the_stored_json(store: Path) -> None:
    result = run("show", store / "log", "--json")
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [line["index"] for line in lines] == list(range(34))
    assert canonical.encode(lines[7]["entry"]) == HONEST.entries[7].encode()  # type: ignore[union-attr]


def test_show_shows_what_it_does_not_understand(tmp_path: Path) -> None:
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    foreign = canonical.encode({"kind": "\u202ex", "version": 1, "note": "\x9b31m"})
    history = told(recorder).with_entries(lambda entries: entries.extend([foreign, b"\xff\x00"]))
    store = to_directory(history.store(), tmp_path)
    for arguments in ((), ("--json",)):
        result = run("show", store, *arguments)
        assert result.exit_code == 0
        assert len(result.output.splitlines()) == 4
        assert all(character.isprintable() or character == "\n" for character in result.output)


def test_show_says_which_file_is_damaged(store: Path) -> None:
    (store / BUNDLE).write_bytes(b"\x00")
    result = run("show", store)
    assert result.exit_code == 2
    assert BUNDLE in result.output


# Bare machines

_BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "grpc", "google", "safetensors", "sklearn", "matplotlib"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from strongroom.cli import main
sys.argv[0] = "strongroom"
main()
"""


def python(*args: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("command", ["verify", "show"])
def test_it_runs_without_torch_numpy_grpc_and_protobuf(store: Path, agreement: Path, command: str) -> None:
    arguments = ("--agreement", agreement) if command == "verify" else ()
    good = python("-c", _BLOCKER, "audit", command, store, *arguments)
    assert good.returncode == 0, good.stderr
    assert "round.opened" in good.stdout or good.stdout.startswith("PASS")
    flip(store / BUNDLE)
    if command == "verify":
        assert python("-c", _BLOCKER, "audit", command, store, *arguments).returncode == 1


@pytest.mark.parametrize("level", ["-O", "-OO"])
def test_an_optimising_interpreter_fails_it_too(store: Path, agreement: Path, level: str, tmp_path: Path) -> None:
    arguments = ("audit", "verify", store, "--agreement", agreement)
    assert python(level, "-m", "strongroom.cli", *arguments).returncode == 0
    flip(store / BUNDLE)
    tampered = python(level, "-m", "strongroom.cli", *arguments)
    assert tampered.returncode == 1
    assert BUNDLE in tampered.stdout
    lie = to_directory(HONEST.with_cosigners(HONEST.index(RoundOpened), ()).store(), tmp_path / "lie")
    released = python(level, "-m", "strongroom.cli", "audit", "verify", lie, "--agreement", agreement)
    assert released.returncode == 1
    assert "released without a quorum" in released.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="building the wheel needs hatchling")
def test_the_base_install_is_all_that_an_auditor_needs(store: Path, agreement: Path, tmp_path: Path) -> None:
    """A real environment from the lock: neither torch, numpy nor grpc is there, nor anything else of ours."""
    wheels = tmp_path / "wheels"
    built = python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT)
    assert built.returncode == 0, built.stderr
    venv.create(tmp_path / "venv", with_pip=True)
    interpreter = tmp_path / "venv/bin/python"

    def in_venv(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([interpreter, *map(str, args)], capture_output=True, text=True, cwd=tmp_path)

    pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps")
    for step in (("--require-hashes", "-r", ROOT / "locks/base.txt"), tuple(wheels.glob("strongroom-*.whl"))):
        installed = in_venv(*pip, *step)
        assert installed.returncode == 0, installed.stderr
    for absent in ("torch", "numpy", "grpc", "google.protobuf"):
        assert in_venv("-c", f"import {absent}").returncode != 0
    arguments = ("audit", "verify", store, "--agreement", agreement)
    strongroom = [tmp_path / "venv/bin/strongroom", *map(str, arguments)]
    good = subprocess.run(strongroom, capture_output=True, text=True, cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("PASS (simulated: protects nothing)")
    flip(store / BUNDLE)
    tampered = subprocess.run(strongroom, capture_output=True, text=True, cwd=tmp_path)
    assert tampered.returncode == 1
    assert BUNDLE in tampered.stdout
