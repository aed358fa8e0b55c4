"""A whole federation in processes, started as users start them: `strongroom appliance serve`, `strongroom silo train`.

Starting an appliance costs seconds (its enclave loads torch), a round milliseconds: a test starts few and lets them run
long. Silos' training is forked from a process that has loaded everything (`nursery.py`). Silos
train what they are given in `data.json` with a script of the test's, and submit the rounds up to their *gate* only, so
that a test decides how far each of them goes, and in the middle of which round something happens.
"""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agreement_examples import MEASUREMENT, identity
from memory_federation import signing_key
from nursery import Forked, nursery
from simulated import write_federation
from torch import nn

from attestation.collect.measurement import installed_code, measure
from audit.entries import Entry, RoundPublished, parse_entry
from audit.log import LogDamagedError, LogReader
from audit.store import DirectoryStore, NotFound
from protocol.agreement import Agreement
from silo_client.identity import create_identity

STRONGROOM = (sys.executable, "-m", "strongroom.cli")
PATIENCE_SECONDS = 90.0
_Event = dict[str, Any]
_Entry = TypeVar("_Entry", bound=Entry)


class Running:
    """A `strongroom …` process: what it printed so far, the events in it if it prints JSON, and its stderr."""

    def __init__(
        self, name: str, arguments: tuple[str | Path, ...], log: Path, program: tuple[str, ...] = STRONGROOM
    ) -> None:
        self.name = name
        self.program = program
        self.log = log
        self.output = ""
        self.events: list[_Event] = []
        self._changed = threading.Condition()
        self._ended = False
        ours, theirs = os.pipe()
        with log.open("wb") as stderr:
            self.process = self._start(tuple(map(str, arguments)), theirs, stderr.fileno())
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _start(self, arguments: tuple[str, ...], stdout: int, stderr: int) -> subprocess.Popen[bytes] | Forked:
        """A silo's enrolment and training come from the nursery: they would load torch for seconds."""
        if arguments[:2] in (("silo", "train"), ("silo", "enroll")):
            return nursery().start(arguments, cwd=self.log.parent, stdout=stdout, stderr=stderr)
        return subprocess.Popen(
            [*self.program, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=self.log.parent,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def _read(self, stdout: int) -> None:
        with os.fdopen(stdout, "rb") as lines:
            for line in lines:
                with self._changed:
                    self._take(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        self.output += line.decode("utf-8", "replace")
        with suppress(ValueError):
            self.events.append(json.loads(line))

    def wait_for(self, kind: str, *, since: int = 0, seconds: float = PATIENCE_SECONDS, **facts: object) -> _Event:
        """The first event of a kind with these facts, among those after the first `since`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for event in self.events[since:]:
                    if event["event"] == kind and all(event.get(key) == value for key, value in facts.items()):
                        return event
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "it ended" if self._ended else f"not within {seconds:.0f} s"
                    raise AssertionError(f"{self.name}: no {kind} {facts}: {why}\n{self.events}\n{self.errors}")
                self._changed.wait(left)

    def exit_code(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no good-bye."""
        self.process.kill()
        self.process.wait()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def errors(self) -> str:
        """What it has written to stderr so far."""
        return self.log.read_text("utf-8", "replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Ports:
    """An appliance's two addresses; unless told, ports that were free a moment ago."""

    enrolment: int = field(default_factory=_free_port)
    federation: int = field(default_factory=_free_port)

    def table(self, name: str) -> str:
        """As TOML."""
        return f'[{name}]\nenrolment = "127.0.0.1:{self.enrolment}"\nfederation = "127.0.0.1:{self.federation}"\n'


class ProcessFederation:
    """An appliance and its silos, in a folder of their own under /tmp (unix socket paths are short)."""

    def __init__(self, folder: Path, *, network: nn.Module, task: Path, replace: Mapping[str, str], **example: Any):
        """`replace` and `example` change the example agreement (see `simulated.write_federation`)."""
        self.folder = folder
        self.task = task
        self.store = folder / "appliance" / "store"
        self.runs: list[Running] = []
        owners = example["owners"]
        keys = {identity(f"silo-{i}"): str(signing_key(f"silo-{i}").public) for i in range(len(owners))}
        code = {MEASUREMENT: measure(installed_code()).hex()}
        file = write_federation(folder, network, {**replace, **keys, **code}, **example)
        self.agreement = Agreement.parse(file.read_bytes(), file.name)
        self.names = tuple(silo.name for silo in self.agreement.silos)
        for party in ("appliance", *self.names):
            (folder / party).mkdir()
            for name in ("federation.toml", "layout.json"):
                shutil.copy(folder / name, folder / party)
        for name in self.names:
            create_identity(folder / name / f"{name}.key", signing_key(name).seed())
        self.ports = Ports()
        for name in self.names:
            self.write_silo(name, self.ports)
        self.write_appliance(self.ports)
        self.ready: _Event = {}

    # Files

    def write_appliance(
        self, ports: Ports, *, file: str = "appliance.toml", store: str = "store", agreement: str = "federation.toml"
    ) -> None:
        """The operator's settings."""
        (self.folder / "appliance" / file).write_text(
            f'agreement = "{agreement}"\nlayout = "layout.json"\nstore = "{store}"\n\n{ports.table("listen")}'
        )

    def write_silo(
        self,
        name: str,
        ports: Ports,
        *,
        file: str = "silo.toml",
        agreement: str = "federation.toml",
        state: str = "state",
    ) -> None:
        """One silo's settings."""
        (self.folder / name / file).write_text(
            f'name = "{name}"\nagreement = "{agreement}"\nlayout = "layout.json"\n'
            f'initial_model = "../initial.safetensors"\nidentity = "{name}.key"\nstate = "{state}"\n\n'
            f"{ports.table('appliance')}"
        )

    def change_a_byte(self, party: str, file: str) -> str:
        """Write a copy of a party's agreement that differs by a byte of a comment; returns its digest in words."""
        data = (self.folder / party / "federation.toml").read_bytes().replace(b"# An example", b"# an example", 1)
        (self.folder / party / file).write_bytes(data)
        return f"sha256:{Agreement.parse(data, file).digest.hex()}"

    def gate(self, last_round: int, *names: str) -> None:
        """Let silos (all, unless named) submit the rounds up to this one."""
        for name in names or self.names:
            unfinished = self.folder / name / "gate.new"
            unfinished.write_text(str(last_round))
            unfinished.replace(self.folder / name / "gate")

    # Processes

    def start_appliance(self) -> Running:
        """Start it and wait until it is ready."""
        appliance = self.serve()
        self.ready = appliance.wait_for("ready")
        return appliance

    def serve(self, file: str = "appliance.toml", program: tuple[str, ...] = STRONGROOM) -> Running:
        """Start an appliance."""
        config = self.folder / "appliance" / file
        return self.run("appliance", "appliance", "serve", "--json", "--config", config, program=program)

    def start_silo(self, name: str, *, file: str = "silo.toml") -> Running:
        """Start a silo's training script."""
        folder = self.folder / name
        return self.run(name, "silo", "train", "--json", "--config", folder / file, self.task, folder)

    def run(self, party: str, *arguments: str | Path, program: tuple[str, ...] = STRONGROOM) -> Running:
        """Start any command in a party's folder."""
        running = Running(party, arguments, self.folder / party / f"stderr-{len(self.runs)}", program)
        self.runs.append(running)
        return running

    def kill_child(self, who: str) -> None:
        """SIGKILL for enclave or gateway, by the pid in the newest readiness line."""
        os.kill(self.ready[f"{who}_pid"], signal.SIGKILL)

    def command(self, *arguments: str | Path, party: str = "appliance") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*STRONGROOM, *map(str, arguments)],
            cwd=self.folder / party,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def end(self) -> None:
        """Kill whatever still runs."""
        for running in self.runs:
            if running.running:
                running.kill()

    # The log

    def entries(self, kind: type[_Entry], store: Path | None = None) -> list[_Entry]:
        """The log's entries of a kind, so far."""
        return [entry for entry in self.log(store) if isinstance(entry, kind)]

    def log(self, store: Path | None = None) -> list[Entry]:
        """All entries so far, read while the enclave may be writing: it deletes partial tiles that it has outgrown."""
        for _ in range(100):
            files = DirectoryStore(store or self.store)
            try:
                return [_parsed(data) for data in LogReader(files).entries()]
            except NotFound:
                return []
            except LogDamagedError:
                time.sleep(0.01)
            finally:
                files.close()
        raise AssertionError("the log can't be read")

    def published(self) -> list[int]:
        """The numbers of the published rounds, as the log has them."""
        return [entry.round for entry in self.entries(RoundPublished)]

    def wait_published(self, last_round: int) -> RoundPublished:
        """Wait until a round is published; returns its entry. Failing, it shows how everybody is."""
        try:
            return wait_until(
                lambda: next((entry for entry in self.entries(RoundPublished) if entry.round == last_round), None),
                f"round {last_round} to be published",
            )
        except AssertionError as error:
            states = [f"{run.name}: exit code {run.process.poll()}\n{run.errors[-1500:]}" for run in self.runs]
            raise AssertionError("\n".join([str(error), *states])) from None


# A log is read again and again while one waits for its next entry.
_parsed = functools.cache(parse_entry)
_Found = TypeVar("_Found")


def wait_until(look: Callable[[], _Found | None], what: str, seconds: float = PATIENCE_SECONDS) -> _Found:
    """The first thing that `look` finds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@contextmanager
def federation(
    *, network: nn.Module, task: Path, replace: Mapping[str, str], **example: Any
) -> Iterator["ProcessFederation"]:
    """A federation whose processes and folder are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    made = ProcessFederation(folder, network=network, task=task, replace=replace, **example)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def children(supervisor: int, who: str) -> set[int]:
    """The pids of a supervisor's enclave or gateway as the kernel knows them: one, or none between two of them."""
    module, found = f"appliance.{who}.process".encode(), set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            if module in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.add(int(pid))
    return found


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP for a process, and SIGCONT afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def exit_codes(runs: Collection[Running]) -> dict[str, int]:
    """Wait for all of them."""
    return {running.name: running.exit_code() for running in runs}
