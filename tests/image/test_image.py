"""What is in the appliance's image, and the image at work: `make image-check` builds it and says where it is.

Under root it runs its two processes as two users; under any other user (which is how the image is made) as one.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from least_squares_oracle import TASK, Rows
from process_federation import ProcessFederation, Running, exit_codes, federation

from attestation.collect.measurement import installed_code, measure

CONTAINER = os.environ.get("STRONGROOM_CONTAINER", "")
pytestmark = pytest.mark.skipif(not CONTAINER, reason="make image-check builds an image and sets STRONGROOM_CONTAINER")
torch.set_num_threads(1)
LOCKS = Path(__file__).parents[2] / "locks"
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
ENCLAVE, GATEWAY, GROUP = 64_101, 64_102, 64_100
ROUNDS = 3


def in_image(*command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["buildah", "run", *options, CONTAINER, "--", *command], capture_output=True, text=True)


def test_it_does_not_run_as_root() -> None:
    said = in_image("python3", "-c", "import os; print(os.getuid(), os.getgid(), os.getgroups())")
    assert said.stdout.split() == [str(ENCLAVE), str(GROUP), f"[{GROUP}]"]


@pytest.mark.parametrize("program", ["cc", "gcc", "c++", "clang", "ld", "as", "make", "cmake", "rustc", "git"])
def test_no_compiler_is_left(program: str) -> None:
    assert in_image("sh", "-c", f"command -v {program}").stdout == ""
    assert in_image("sh", "-c", "command -v strongroom").stdout.strip() == "/opt/strongroom/bin/strongroom"


def test_nothing_can_be_installed_into_its_environment() -> None:
    assert "No module named 'pip'" in in_image("/opt/strongroom/bin/python", "-c", "import pip").stderr
    written = in_image("sh", "-c", "echo 'print(1)' > /opt/strongroom/lib/python3.11/site-packages/appliance/more.py")
    assert written.returncode != 0


def test_no_program_in_it_gives_more_rights() -> None:
    assert in_image("find", "/", "-xdev", "-perm", "/6000", "-type", "f").stdout == ""


def test_it_holds_what_the_locks_name_and_nothing_else() -> None:
    listing = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    said: dict[str, str] = json.loads(in_image("/opt/strongroom/bin/python", "-I", "-c", listing).stdout)
    found = {re.sub("[-_.]+", "-", name).lower(): version for name, version in said.items()}
    locked = dict(re.findall(r"^([a-z0-9_.-]+)==([^ \\;]+)", (LOCKS / "appliance.txt").read_text(), re.MULTILINE))
    assert found.pop("torch").partition("+")[0] == "2.13.0"
    assert found.pop("strongroom")
    assert found == locked


def test_its_measurement_is_that_of_the_source() -> None:
    assert in_image("strongroom", "appliance", "measure").stdout.strip() == measure(installed_code()).hex()


@dataclass
class Ran:
    """A federation whose appliance ran in the container."""

    federation: ProcessFederation
    silo_codes: dict[str, int]
    users: dict[str, int]
    reached: dict[str, str]
    audit: str


def started_in_the_container(made: ProcessFederation, user: str) -> Running:
    made.folder.chmod(0o755)
    (made.folder / "appliance").chmod(0o777)
    options = ("--user", user, "-v", f"{made.folder}:{made.folder}")
    appliance = made.serve(program=("buildah", "run", *options, CONTAINER, "--", "strongroom"))
    made.ready = appliance.wait_for("ready")
    return appliance


@contextmanager
def ran(user: str) -> Iterator[Ran]:
    torch.manual_seed(8)
    network = torch.nn.Linear(5, 1, bias=False)
    with federation(network=network, task=TASK, replace={"rounds = 40": f"rounds = {ROUNDS}"}, owners=OWNERS) as made:
        for i, name in enumerate(made.names):
            Rows.random(i, 5).write(made.folder / name)
        appliance = started_in_the_container(made, user)
        made.gate(ROUNDS)
        codes = exit_codes([made.start_silo(name) for name in made.names])
        status = {who: Path(f"/proc/{made.ready[f'{who}_pid']}/status").read_text() for who in ("enclave", "gateway")}
        verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml")
        yield Ran(
            federation=made,
            silo_codes=codes,
            users={who: int(re.findall(r"^Uid:\t(\d+)", text, re.MULTILINE)[0]) for who, text in status.items()},
            reached={what: reached_by_the_gateways_user(made, what) for what in PLACES},
            audit=verdict.stdout.splitlines()[0],
        )
        # What runs the container does not pass on how it is killed itself.
        os.kill(made.ready["supervisor_pid"], signal.SIGTERM)
        appliance.exit_code()


PLACES = ("memory", "state", "log", "models", "spool")
_REACH = """
import os, sys
what, store, pid = sys.argv[1:]
try:
    if what == "memory":
        open(f"/proc/{pid}/mem", "rb")
    elif what == "state":
        print("read:", os.listdir(f"{store}/state"))
    else:
        print("read:", len(os.listdir(f"{store}/{what}")) > 0)
        open(f"{store}/{what}/planted", "w").close()
    print("written")
except OSError as error:
    print(type(error).__name__)
"""


def reached_by_the_gateways_user(made: ProcessFederation, what: str) -> str:
    """What a gateway that somebody has taken over could do, as far as the kernel has a say."""
    options = ("--user", f"{GATEWAY}:{GROUP}", "-v", f"{made.folder}:{made.folder}")
    done = in_image("python3", "-c", _REACH, what, str(made.store), str(made.ready["enclave_pid"]), options=options)
    return " ".join(done.stdout.split()) or done.stderr


@pytest.fixture(scope="module")
def as_root() -> Iterator[Ran]:
    with ran("0:0") as result:
        yield result


@pytest.fixture(scope="module")
def as_made() -> Iterator[Ran]:
    with ran(f"{ENCLAVE}:{GROUP}") as result:
        yield result


@pytest.mark.parametrize("way", ["as_root", "as_made"])
def test_a_federation_runs_against_it_and_its_log_verifies(way: str, request: pytest.FixtureRequest) -> None:
    result: Ran = request.getfixturevalue(way)
    assert result.silo_codes == dict.fromkeys(result.federation.names, 0)
    assert result.federation.published() == list(range(1, ROUNDS + 1))
    assert result.audit == "PASS (simulated: protects nothing)"


def test_under_root_enclave_and_gateway_are_two_users(as_root: Ran) -> None:
    assert as_root.federation.ready["one_user_because"] is None
    assert as_root.users == {"enclave": ENCLAVE, "gateway": GATEWAY}


def test_under_root_the_gateways_user_reaches_only_what_it_serves(as_root: Ran) -> None:
    assert as_root.reached == {
        "memory": "PermissionError",
        "state": "PermissionError",
        "log": "read: True PermissionError",
        "models": "read: True PermissionError",
        "spool": "read: True written",
    }


def test_under_another_user_both_are_that_user_and_it_says_so(as_made: Ran) -> None:
    assert as_made.federation.ready["one_user_because"] == "the appliance doesn't run as root"
    assert as_made.users == {"enclave": ENCLAVE, "gateway": ENCLAVE}
