"""`strongroom.simulate` in a process that is killed again and again comes to the same bits as one that never was."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from simulated import write_federation

from audit.entries import ApplianceStarted, Entry, RoundPublished, parse_entry
from audit.log import LogReader
from audit.store import DirectoryStore
from silo_client.state import SiloState

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
PROGRAM = Path(__file__).with_name("killed_simulation.py")
KILLS = 5


def log(store: Path) -> list[Entry]:
    return [parse_entry(data) for data in LogReader(DirectoryStore(store / "appliance")).entries()]


def digests(store: Path) -> list[tuple[int, bytes, bytes | None, list[str]]]:
    return [
        (entry.round, entry.model_out, entry.control_out, [member.silo for member in entry.cohort])
        for entry in log(store)
        if isinstance(entry, RoundPublished)
    ]


def controls(store: Path, agreement: bytes, size: int) -> dict[str, bytes]:
    found = {}
    for folder in sorted((store / "silos").iterdir()):
        state = SiloState.read_only(DirectoryStore(folder), agreement=agreement, silo=folder.name)
        out = bytearray(size)
        state.read_control(memoryview(out))
        assert state.pending is None
        found[folder.name] = bytes(out)
    return found


def test_a_simulation_that_is_killed_again_and_again_comes_to_the_same_bits(tmp_path: Path) -> None:
    program = runpy.run_path(str(PROGRAM))
    replace = {"rounds = 40": f"rounds = {len(program['PARTICIPATION'])}", "local_steps = 10": "local_steps = 2"}
    file = write_federation(tmp_path, program["network"](), replace)
    undisturbed = program["run"](file, tmp_path / "undisturbed")
    killed = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, "1", str(KILLS)], capture_output=True, text=True, timeout=200
    )
    assert killed.returncode == 0, killed.stderr
    times = json.loads(killed.stdout)["killed"]
    assert times > KILLS // 2
    boots = [entry for entry in log(tmp_path / "store") if isinstance(entry, ApplianceStarted)]
    assert len(boots) > times // 2
    assert digests(tmp_path / "store") == digests(tmp_path / "undisturbed")
    size = 4 * (program["DIMENSION"] + 1)
    ours = controls(tmp_path / "store", undisturbed.agreement.digest, size)
    assert ours == controls(tmp_path / "undisturbed", undisturbed.agreement.digest, size)
    assert all(any(control) for control in ours.values())
