"""`strongroom agreement check | digest | model`, as a person runs them."""

import hashlib
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from protocol.agreement import Agreement
from protocol.layout import Layout
from silo_client.initial_model import read_initial_model
from strongroom.cli import cli

torch.set_num_threads(1)
EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
TASK = """
from torch import nn

def build_model():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))

if __name__ == "__main__":
    raise SystemExit("the training loop must not run")
"""


@pytest.fixture(autouse=True)
def _clean_interpreter() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    sys.modules.pop("strongroom_task", None)
    for name in set(sys.modules) - modules:
        if name.startswith("beside_"):
            del sys.modules[name]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["agreement", *map(str, arguments)], catch_exceptions=False)


def written(folder: Path, text: str, name: str = "federation.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_check_says_what_the_agreement_means(tmp_path: Path) -> None:
    path = written(tmp_path, EXAMPLES["good_agreement"]())
    result = invoke("check", path)
    assert result.exit_code == 0
    for words in (
        "The agreement of 'digits' is in order.",
        f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        "scaffold: 40 rounds of 10 local steps, learning rate 0.1, at the server 1",
        "at least 2 of 4 owners in every round",
        "3 of 4 owners must cosign each release; up to 1 may be absent; up to 1 may collude or have lost their memory",
        "silo-3  delta-telecom  CH            1       simulated",
        "The TEEs are simulated: THIS PROTECTS NOTHING.",
    ):
        assert words in result.stdout
    assert result.stderr == ""


def test_check_of_three_owners_says_that_none_may_be_absent(tmp_path: Path) -> None:
    result = invoke("check", written(tmp_path, EXAMPLES["good_agreement"](owners=("a", "b", "c"))))
    assert "3 of 3 owners must cosign each release; none may be absent;" in result.stdout


def test_check_of_real_tees_makes_no_such_remark_and_names_silos_without(tmp_path: Path) -> None:
    result = invoke("check", written(tmp_path, EXAMPLES["good_agreement"](tee="sev-snp", silo_tee="none")))
    assert result.exit_code == 0
    assert "PROTECTS NOTHING" not in result.stdout
    assert "vouched for by their identity key alone: silo-0, silo-1, silo-2, silo-3." in result.stdout


def test_check_as_json(tmp_path: Path) -> None:
    path = written(tmp_path, EXAMPLES["good_agreement"]())
    summary = json.loads(invoke("check", path, "--json").stdout)
    assert summary["digest"] == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert summary["simulated"] is True
    assert (summary["cosigners"], summary["tolerated_absences"]) == (3, 1)
    assert summary["silos"][0] == {
        "name": "silo-0",
        "owner": "alpenklinik",
        "jurisdiction": "CH",
        "weight": 1.0,
        "tees": ["simulated"],
    }


@pytest.mark.parametrize("subcommand", ["check", "digest"])
def test_an_error_is_one_line_on_stderr(tmp_path: Path, subcommand: str) -> None:
    path = written(tmp_path, EXAMPLES["good_agreement"]().replace("local_steps = 10", "local_steps = 0"))
    result = invoke(subcommand, path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == f"{path}: [training] local_steps: expected an integer from 1 to 1000000, found 0\n"


@pytest.mark.parametrize("subcommand", ["check", "digest"])
def test_a_file_that_is_not_there(tmp_path: Path, subcommand: str) -> None:
    result = invoke(subcommand, tmp_path / "none.toml")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'none.toml'}: expected a readable file, found No such file or directory\n"


def test_digests_of_files_that_differ_in_one_byte(tmp_path: Path) -> None:
    one = written(tmp_path, EXAMPLES["good_agreement"](), "one.toml")
    two = written(tmp_path, EXAMPLES["good_agreement"]() + "\n", "two.toml")
    assert invoke("digest", one).stdout == f"sha256:{hashlib.sha256(one.read_bytes()).hexdigest()}\n"
    assert invoke("digest", two).stdout == f"sha256:{hashlib.sha256(two.read_bytes()).hexdigest()}\n"
    assert invoke("digest", one).stdout != invoke("digest", two).stdout


def test_model_writes_both_files_and_the_block_that_names_them(tmp_path: Path) -> None:
    task, out = written(tmp_path, TASK, "task.py"), tmp_path / "made" / "here"
    result = invoke("model", task, "--out", out)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["initial.safetensors", "layout.json"]

    head, _, tail = EXAMPLES["good_agreement"]().partition("[model]")
    text = head + result.stdout + tail[tail.index("\n[training]") :]
    agreement = Agreement.parse(text.encode(), "federation.toml")
    layout = Layout.parse((out / "layout.json").read_bytes())
    assert agreement.model.layout == layout.digest
    read_initial_model(out / "initial.safetensors", layout, agreement.model.initial)
    assert set(load_file(out / "initial.safetensors")) == {tensor.name for tensor in layout.tensors}


def test_model_gives_the_same_block_again_and_another_for_another_seed(tmp_path: Path) -> None:
    task = written(tmp_path, TASK, "task.py")
    one, two = invoke("model", task, "--out", tmp_path / "1"), invoke("model", task, "--out", tmp_path / "2")
    other = invoke("model", task, "--out", tmp_path / "3", "--seed", "1")
    assert one.stdout == two.stdout != other.stdout
    files = [(tmp_path / name / "initial.safetensors").read_bytes() for name in "123"]
    assert files[0] == files[1] != files[2]


def test_model_runs_the_file_beside_its_neighbours(tmp_path: Path) -> None:
    written(tmp_path, "from torch import nn\nNET = nn.Linear(2, 2)\n", "beside_net.py")
    task = written(
        tmp_path,
        "import dataclasses, beside_net\n"
        "@dataclasses.dataclass\n"
        "class Options:\n    width: 'int' = 2\n"
        "def build_model(): return beside_net.NET\n"
        "assert __name__ == 'strongroom_task'\n",
        "task.py",
    )
    assert invoke("model", task, "--out", tmp_path / "out").exit_code == 0


def test_a_protocol_py_beside_the_task_does_not_take_the_place_of_ours(tmp_path: Path) -> None:
    written(tmp_path, "raise RuntimeError('shadowed')\n", "protocol.py")
    (tmp_path / "audit").mkdir()
    task = written(tmp_path, TASK, "task.py")
    strongroom = Path(sys.executable).parent / "strongroom"
    result = subprocess.run(
        [strongroom, "agreement", "model", task, "--out", "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("[model]\n")


def test_an_import_of_a_name_that_is_ours_is_explained(tmp_path: Path) -> None:
    written(tmp_path, "codec = 1\n", "protocol.py")
    task = written(tmp_path, "from protocol import codec\n", "task.py")
    result = invoke("model", task, "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.endswith("'protocol' beside it has the name of one of Strongroom's packages: rename yours\n")


WANTED = "expected a function build_model() that returns the torch.nn.Module to train"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("", f"{WANTED}, found none"),
        ("build_model = 3\n", f"{WANTED}, found 3"),
        ("def build_model(): return None\n", f"{WANTED}, found one that returns NoneType"),
        ("def build_model(:\n", "expected Python, found invalid syntax (task.py, line 1)"),
        (
            "import torch\ndef build_model(): return torch.nn.Linear(2, 2).double()\n",
            (
                "model: parameter 'weight': expected one of float32, float16, bfloat16, bool, uint8, int8, int16, "
                "int32, int64, found float64; convert it, e.g. with model.float()"
            ),
        ),
    ],
    ids=["missing", "no-function", "no-module", "syntax", "float64"],
)
def test_a_task_without_a_model(tmp_path: Path, source: str, error: str) -> None:
    task = written(tmp_path, source, "task.py")
    result = invoke("model", task, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stdout == ""
    prefix = "" if error.startswith("model:") else f"{task}: "
    assert result.stderr == f"{prefix}{error}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["1 / 0\n", "def build_model():\n    1 / 0\n"])
def test_a_task_that_fails_shows_where(tmp_path: Path, source: str) -> None:
    task = written(tmp_path, source, "task.py")
    result = invoke("model", task, "--out", tmp_path / "out")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"{task}: expected it to run, found ZeroDivisionError"
    assert lines[2].startswith(f'  File "{task}", line ')
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_task_that_exits_is_an_error_not_a_success(tmp_path: Path) -> None:
    task = written(tmp_path, "import sys\nsys.exit(0)\n", "task.py")
    result = invoke("model", task, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "expected it to run, found SystemExit" in result.stderr


def test_a_task_that_is_not_there(tmp_path: Path) -> None:
    result = invoke("model", tmp_path / "none.py")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'none.py'}: expected a readable file, found No such file or directory\n"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    task = written(tmp_path, TASK, "task.py")
    written(tmp_path, "", "file")
    result = invoke("model", task, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'file' / 'out'}: expected a writable folder, found Not a directory\n"
