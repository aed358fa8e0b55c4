"""A federation to kill in: silos behind valves, rounds that wait where a test wants them, and all of it going on again.

At rest every silo has trained for round `number` and waits at its gate. A moment (`kill_moments.py`) takes it from
there to one exact state, in which somebody is killed; `recover` lets everything go on until the next rest.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from least_squares_oracle import Rows
from process_federation import PATIENCE_SECONDS, Ports, ProcessFederation, Running, children, exit_codes, wait_until
from valves import Valve

from audit.entries import Entry, RoundOpened, SiloAdmitted, UpdateAccepted, parse_entry
from audit.log import LogDamagedError, LogReader
from audit.phases import Phase
from audit.replay import History
from audit.store import DirectoryStore, NotFound
from silo_client.state import SealedUpdate, SiloState

TASK = Path(__file__).parent / "e2e" / "ballast.py"


@dataclass(frozen=True)
class PulledRows(Rows):
    """Rows, and where this silo pulls the ballast to: in the oracle that is the vector's last coordinate."""

    pull: float

    @classmethod
    def of_silo(cls, silo: int, dimension: int) -> "PulledRows":
        rows = Rows.random(silo, dimension)
        return cls(rows.features, rows.targets, 0.25 * silo - 0.5)

    def data(self) -> dict[str, object]:
        return {**super().data(), "pull": self.pull}

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return np.append(super().gradient(w[:-1]), w[-1] - self.pull)


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A kill: the moment's name, the victim, what round it was about, and how the log and the victim then stood.

    `sent_bytes`: through the silo's valve, up to the kill or, once all has gone on, since then.
    """

    moment: str
    victim: str
    silo: str
    number: int
    phase: Phase
    log_size: int
    pending: SealedUpdate | None
    survivors: tuple[str, ...]
    sent_bytes: int


class Stage:
    """One appliance and its silos, each silo's federation port behind a valve of its own."""

    def __init__(self, made: ProcessFederation) -> None:
        self.made = made
        self.names = made.names
        self.rounds = made.agreement.federation.rounds
        made.gate(0)
        self.appliance = made.start_appliance()
        self.valves = {name: Valve(made.ports.federation) for name in self.names}
        for name, valve in self.valves.items():
            made.write_silo(name, Ports(enrolment=made.ports.enrolment, federation=valve.port))
        self.silos: dict[str, Running] = {}
        self.dead: set[str] = set()
        self.let_go: set[str] = set()
        self.number = 1

    def end(self) -> None:
        """End the valves; the processes are the federation's to end."""
        for valve in self.valves.values():
            valve.end()

    # Silos

    def start(self, *names: str) -> None:
        """Start silos, for the first time or again."""
        for name in names:
            self.silos[name] = self.made.start_silo(name)
            self.dead.discard(name)

    def submit(self, *names: str) -> None:
        """Let these silos submit the round, and wait until their updates were accepted."""
        said = {name: len(self.silos[name].events) for name in names}
        self.made.gate(self.number, *names)
        for name in names:
            self.silos[name].wait_for("submitted", since=said[name], round=self.number)

    def state(self, name: str) -> SiloState:
        """A silo's state as it is on the disk now."""
        files = DirectoryStore(self.made.folder / name / "state")
        try:
            return SiloState.read_only(files, agreement=self.made.agreement.digest, silo=name)
        finally:
            files.close()

    def spooled(self, name: str, ending: str) -> int:
        """Bytes of a silo's upload in the spool, by the file's name or ending."""
        sizes = [0]
        for path in (self.made.store / "spool" / name).glob(f"*{ending}"):
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return max(sizes)

    # The log

    def phase(self) -> Phase:
        """Where the log stands, as an auditor finds it."""
        history = History(self.made.agreement)
        for entry in self.made.log():
            history.apply(entry)
        return history.phase

    def last(self) -> Entry:
        """The newest entry; quick."""
        files = DirectoryStore(self.made.store)
        try:
            return wait_until(lambda: _newest_entry(files), "a log that can be read")
        finally:
            files.close()

    def admitted(self) -> set[str]:
        """All silos that were ever admitted."""
        return {entry.silo for entry in self.made.entries(SiloAdmitted)}

    def accepted(self) -> list[str]:
        """Whose updates the newest attempt has."""
        entries = self.made.log()
        opened = max(index for index, entry in enumerate(entries) if isinstance(entry, RoundOpened))
        return [entry.silo for entry in entries[opened:] if isinstance(entry, UpdateAccepted)]

    def log_size(self) -> int:
        return self._checkpoint()[0]

    def cosignatures(self) -> int:
        """How many cosignatures the newest checkpoint has."""
        return self._checkpoint()[1]

    def _checkpoint(self) -> tuple[int, int]:
        files = DirectoryStore(self.made.store)
        try:
            newest = LogReader(files).newest()
        except NotFound:
            return 0, 0
        finally:
            files.close()
        return newest.size, len(newest.note.signatures) - 1

    # Stopping

    @contextmanager
    def frozen(self, *names: str) -> Iterator[None]:
        """SIGSTOP for silos, by name, or for "enclave"; SIGCONT for whoever is left of them afterwards."""
        pids = [self._pid(name) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: _all_stopped(pid), "a process to stop")  # type: ignore[misc]
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextmanager
    def caught(self, seen: Callable[[], bool], is_so: Callable[[], bool]) -> Iterator[bool]:
        """Stop the enclave as soon as something is seen, and say whether the state is then the one that was meant."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not seen():
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing was caught in {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.0002)
        with self.frozen("enclave"):
            yield is_so()

    @contextmanager
    def newborn_enclave(self) -> Iterator[None]:
        """The next enclave that the supervisor starts, stopped before it has done anything."""
        former, supervisor = self._pid("enclave"), self._pid("supervisor")
        born = wait_until(lambda: next(iter(children(supervisor, "enclave") - {former}), None), "another enclave")
        self.made.ready["enclave_pid"] = born
        with self.frozen("enclave"):
            yield

    def _pid(self, who: str) -> int:
        return self.silos[who].process.pid if who in self.silos else int(self.made.ready[f"{who}_pid"])

    # Killing, and going on

    def strike(self, moment: str, victim: str, silo: str) -> Strike:
        """Kill somebody, now: the `silo`, if the victim is one. "operator" is SIGTERM for the appliance."""
        survivors = set(self.silos) - ({silo} if victim == "silo" else set())
        made = Strike(
            moment=moment,
            victim=victim,
            silo=silo,
            number=self.number,
            phase=self.phase(),
            log_size=self.log_size(),
            pending=self.state(silo).pending if victim == "silo" else None,
            survivors=tuple(sorted(survivors)),
            sent_bytes=self.valves[silo].up.passed if silo else 0,
        )
        self._said = len(self.appliance.events)
        if victim == "silo":
            self.silos[silo].kill()
            self.dead.add(silo)
        elif victim == "appliance":
            self.appliance.kill()
        elif victim == "operator":
            self.appliance.signal(signal.SIGTERM)
        else:
            self.made.kill_child(victim)
        # What valves still hold back went with the process, or its machine.
        for name in {"gateway": self.names, "silo": (silo,)}.get(victim, ()):
            self.valves[name].cut()
        return made

    def restart_enclave(self) -> None:
        """Kill it, and wait for the next."""
        said = len(self.appliance.events)
        self.made.kill_child("enclave")
        self.made.ready = self.appliance.wait_for("ready", since=said)

    def recover(self, strike: Strike) -> Strike:
        """Start again what nobody else does, let the round be published, and come to rest in the next one."""
        if strike.victim in ("enclave", "gateway"):
            self.made.ready = self.appliance.wait_for("ready", since=self._said)
        elif strike.victim != "silo":
            self.appliance.exit_code()
            self.appliance = self.made.start_appliance()
        self.start(*sorted(self.dead))
        if len(self.silos) == len(self.names) and self.number <= self.rounds:
            self.rest(*strike.survivors)
            self.go_on()
        now = self.valves[strike.silo].up.passed if strike.silo else 0
        return replace(strike, sent_bytes=now - strike.sent_bytes)

    def go_on(self) -> None:
        """Let the round be published, and come to rest in the next one."""
        self.made.gate(self.number)
        self.made.wait_published(self.number)
        self.number += 1
        self.rest(*self.names)

    def rest(self, *names: str) -> None:
        """Wait until these silos have trained for the round, or know that there is none any more."""
        for name in names:
            if self.number <= self.rounds:
                self.silos[name].wait_for("round", round=self.number)
            else:
                self.silos[name].wait_for("finished")

    def finish(self) -> dict[str, int]:
        """Let the silos fetch the final model and end; their exit codes."""
        while self.number <= self.rounds:
            self.go_on()
        self.made.gate(self.rounds + 1)
        return exit_codes(list(self.silos.values()))


def _newest_entry(files: DirectoryStore) -> Entry | None:
    """None while the enclave deletes what it has outgrown."""
    try:
        log = LogReader(files)
        return parse_entry(log.entry(log.size - 1))
    except LogDamagedError:
        return None


def _all_stopped(pid: int) -> bool:
    """Whether every thread is (proc(5): the state follows the command's name, in brackets)."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] in "tT" for thread in threads)
