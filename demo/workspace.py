"""The demonstration's folder: what four sites and an operator would have on five machines.

Everything is made by the same commands that a user types; this module only runs them and pastes their output together.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.task import SITES

STRONGROOM = (sys.executable, "-m", "strongroom.cli")
TASK = Path(__file__).with_name("task.py")
ROUNDS = 40
LOCAL_STEPS = 25
LEARNING_RATE = 0.1
ROUND_DEADLINE_SECONDS = 6
_JURISDICTIONS = {"berlin": "DE", "geneva": "CH", "lyon": "FR", "vienna": "AT"}


class StepFailedError(Exception):
    """A command of the demonstration did not do what it should; its output is the message."""


def strongroom(*arguments: str | Path, cwd: Path, expect: int = 0, program: Sequence[str] = STRONGROOM) -> str:
    """Run one command to its end and return its stdout; raises `StepFailedError` on another exit code."""
    done = subprocess.run([*program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != expect:
        command = "strongroom " + " ".join(map(str, arguments))
        raise StepFailedError(f"{command}: expected exit code {expect}, found {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


class Workspace:
    """`folder`/federation.toml and layout.json as everybody has them, and a folder for each party."""

    def __init__(self, folder: Path, appliance_program: Sequence[str] = STRONGROOM) -> None:
        """`appliance_program`: what runs `strongroom` on the operator's machine, be it in a container."""
        self.folder = folder
        self.appliance_program = tuple(part.replace("{folder}", str(folder)) for part in appliance_program)
        self.agreement = folder / "federation.toml"
        self.appliance = folder / "appliance"
        self.store = self.appliance / "store"

    def site(self, name: str) -> Path:
        return self.folder / "sites" / name

    def make(self) -> str:
        """Make keys, model and agreement; returns the agreement's digest."""
        for name in SITES:
            self.site(name).mkdir(parents=True)
        self.appliance.mkdir()
        if self.appliance_program != STRONGROOM:
            self.appliance.chmod(0o777)  # Another user runs it.
        silos = [self._key(name) for name in SITES]
        model = strongroom("agreement", "model", TASK, "--out", ".", cwd=self.folder)
        measured = strongroom("appliance", "measure", "--toml", cwd=self.folder, program=self.appliance_program)
        self.agreement.write_text(_agreement("scaffold", model, measured, silos))
        strongroom("agreement", "check", "federation.toml", cwd=self.folder)
        for party in (self.appliance, *(self.site(name) for name in SITES)):
            for file in (self.agreement, self.folder / "layout.json"):
                (party / file.name).write_bytes(file.read_bytes())
        self._write_fedavg(model, measured, silos)
        return strongroom("agreement", "digest", "federation.toml", cwd=self.folder).strip()

    def _key(self, name: str) -> str:
        return strongroom(
            *("silo", "init", name, "--jurisdiction", _JURISDICTIONS[name], "--tee", "simulated"),
            cwd=self.site(name),
        )

    def write_appliance(self) -> Path:
        """The operator's settings; port 0 asks for free ports."""
        file = self.appliance / "appliance.toml"
        file.write_text(
            'agreement = "federation.toml"\nlayout = "layout.json"\nstore = "store"\n\n'
            '[listen]\nenrolment = "127.0.0.1:0"\nfederation = "127.0.0.1:0"\n'
        )
        return file

    def write_site(self, name: str, *, enrolment: str, federation: str) -> Path:
        """One site's settings."""
        file = self.site(name) / "silo.toml"
        file.write_text(
            f'name = "{name}"\nagreement = "federation.toml"\nlayout = "layout.json"\n'
            f"initial_model = {json.dumps(str(self.folder / 'initial.safetensors'))}\n"
            f'identity = "{name}.key"\nstate = "state"\n\n'
            f'[appliance]\nenrolment = "{enrolment}"\nfederation = "{federation}"\n'
        )
        return file

    def change_a_byte(self, name: str) -> None:
        """Give one site an agreement that differs by a byte (of a comment: even that counts)."""
        copy = self.site(name) / "federation.toml"
        copy.write_bytes(copy.read_bytes().replace(b"# Four", b"# four", 1))

    def restore(self, name: str) -> None:
        """Give it the right one again."""
        (self.site(name) / "federation.toml").write_bytes(self.agreement.read_bytes())

    @property
    def fedavg(self) -> Path:
        """The same federation under FedAvg, for comparison by `strongroom.simulate`."""
        return self.folder / "fedavg" / "federation.toml"

    def _write_fedavg(self, model: str, measured: str, silos: list[str]) -> None:
        self.fedavg.parent.mkdir()
        self.fedavg.write_text(_agreement("fedavg", model, measured, silos))
        for name in ("layout.json", "initial.safetensors"):
            (self.fedavg.parent / name).write_bytes((self.folder / name).read_bytes())


def _agreement(strategy: str, model: str, measured: str, silos: list[str]) -> str:
    return f'''# Four hospitals train one model that reads handwritten digits.
[federation]
name = "digits"
minimum_cohort = 2
rounds = {ROUNDS}
enrolment_deadline_seconds = 60
round_deadline_seconds = {ROUND_DEADLINE_SECONDS}
credential_seconds = 3600

{model}
[training]
strategy = "{strategy}"
local_steps = {LOCAL_STEPS}
learning_rate = {LEARNING_RATE}
server_learning_rate = 1.0

[update]
encoding = "float32"
maximum_norm = 1000.0

[privacy]
mechanism = "none"

[log]
origin = "simulated.strongroom.example/digits"
cosigners = 3
faulty = 1

{measured}
{"".join(block + chr(10) for block in silos)}'''
