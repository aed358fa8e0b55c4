"""The appliance's disk is full in the middle of a federation: real processes, and a file system of 40 MiB.

Uploads are turned away for a while. When the enclave has to write it ends and says what to do; the next one refuses to
start and says it too. Once there is room, everything goes on: silos never left, and nothing that they had submitted is
lost. Needs the right to mount.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from fates import Fates
from least_squares_oracle import TASK, Rows
from process_federation import ProcessFederation, exit_codes, federation

pytestmark = [pytest.mark.slow]
DIMENSION = 17
REMEDY = "make room on its disk and start again"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        for size in (2**20, 2**12):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue
    return ballast


@contextmanager
def running() -> Iterator[ProcessFederation]:
    network = torch.nn.Linear(DIMENSION, 1, bias=False)
    with federation(
        network=network,
        task=TASK,
        replace={"rounds = 40": "rounds = 4", "round_deadline_seconds = 60": "round_deadline_seconds = 5"},
        owners=("a", "b", "c"),
    ) as made:
        for i, name in enumerate(made.names):
            Rows.random(i, DIMENSION).write(made.folder / name)
        with small_disk(made.store):
            try:
                yield made
            finally:
                made.end()


def test_the_appliance_says_so_and_goes_on_once_there_is_room() -> None:
    with running() as made:
        made.gate(1)
        appliance = made.start_appliance()
        silos = [made.start_silo(name) for name in made.names]
        made.wait_published(1)
        ballast = fill(made.store)
        made.gate(3)
        assert appliance.exit_code() in (3, 4)
        failed = [line for line in appliance.errors.splitlines() if "event=failed" in line or "start-refused" in line]
        assert failed
        assert all(f"because=ENOSPC ({REMEDY})" in line or REMEDY in line for line in failed), failed

        again = made.serve()
        assert again.exit_code() == 3
        assert REMEDY in again.errors

        os.unlink(ballast)
        made.start_appliance()
        made.wait_published(3)
        made.gate(4)
        assert exit_codes(silos) == dict.fromkeys(made.names, 0)
        assert made.published() == [1, 2, 3, 4]
        verdict = made.command("audit", "verify", made.store, "--agreement", "federation.toml")
        assert (verdict.returncode, verdict.stdout.splitlines()[0]) == (0, "PASS (simulated: protects nothing)")
        fates = Fates.of(made.log(), [(run.name, run.events) for run in silos])
        assert fates.losses == []
        assert not fates.refused
