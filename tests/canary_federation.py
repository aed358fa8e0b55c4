"""A federation full of markers, behind recorders, and the search for them in all that an operator can look at.

Two of its four silos are processes, two are driven by the test. `CanaryFederation.places` is the list to extend when
the appliance learns to tell more of itself (telemetry, a status page).
"""

import json
import os
import resource
import runpy
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from driven_silo import DrivenSilo
from markers import OVERLAP_BYTES, Kind, Markers
from memory_federation import signing_key
from process_federation import PATIENCE_SECONDS, Ports, ProcessFederation, Running, stopped, wait_until
from process_search import bytes_read, files, memory, new_files, open_files, started_with
from recorders import Recorder, record_tls, record_unix_socket
from torch import Tensor

from appliance.places import Places
from audit.entries import RoundOpened
from protocol.keys import SEALING_SEED_BYTES
from protocol.layout import Section
from protocol.sealing.content_key import CONTENT_KEY_BYTES
from protocol.update import UpdateMetadata
from silo_client.machine import Train
from silo_client.model import Sections, allocate_sections

TASK = Path(__file__).parent / "e2e" / "canary.py"
_SCRIPT = runpy.run_path(str(TASK))
DRIVEN, PROCESSES = ("silo-0", "silo-1"), ("silo-2", "silo-3")
RECORDED = ("silo-0", "silo-2")
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
PLACE = {Kind.MODEL: 0, Kind.CONTROL: 1, Kind.UPDATE: 2, Kind.REFUSED: 3}
TERMS = {
    "local_steps = 10": "local_steps = 1",
    "learning_rate = 0.1\n": "learning_rate = 0.5\n",
    "maximum_norm = 100.0": "maximum_norm = 1000000.0",
    "round_deadline_seconds = 60": "round_deadline_seconds = 600",
}
# All silos report the first, so that its mean is the value itself; the second only one silo, so that there is no mean.
SHARED, OWN = {"canary.shared": 0.8237519283746152}, {"canary.own": 0.45187263948271}
# What shows that a search saw the right bytes; `agreement` is its digest in digits.
PUBLIC = {"agreement", "sealed blob", "arguments"}
METRICS = {f"{which} metric's {what}" for which in ("shared", "own") for what in ("name", "text", "value")}
_MEBIBYTE = 2**20
_SECTIONS = (Section.PARAMETERS, Section.FLOAT_BUFFERS, Section.INTEGER_BUFFERS)


class CanaryFederation:
    """The federation, its markers and its recorders."""

    def __init__(self, made: ProcessFederation, markers: Markers) -> None:
        """`made`: over `network(markers)` and with `TERMS`."""
        self.made = made
        self.markers = markers
        self.began = time.time()
        self.recorders: dict[str, list[Recorder]] = {}
        self.processes: dict[str, Running] = {}
        self.driven: dict[str, DrivenSilo] = {}
        self.keys_made: Counter[str] = Counter()
        self._order = 0, 0
        self._searched: dict[Recorder, int] = {}
        markers.learn("agreement", made.agreement.digest.hex().encode())
        markers.learn("sealed blob", b"strongroom-blob/1")
        markers.learn("arguments", b"appliance.enclave.process\0")
        for which, metric in (("shared", SHARED), ("own", OWN)):
            for name, value in metric.items():
                markers.learn(f"{which} metric's name", name.encode())
                markers.learn(f"{which} metric's text", repr(value)[:16].encode())
                markers.learn(f"{which} metric's value", struct.pack("<d", value))
        markers.learn("silo's identity key", signing_key(DRIVEN[0]).seed())

    # Processes

    def start_appliance(self) -> None:
        """Start it as an operator who wants core dumps does, and listen on the socket between its processes."""
        self._said = 0
        limits = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            self.appliance = self.made.serve()
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, limits)
        self.ready_again()

    def ready_again(self) -> None:
        """Wait until it serves, and put a recorder in the enclave's place. The gateway, killed, starts and meets it."""
        self._next_ready()
        self._record("unix socket", record_unix_socket(Places.of(self.made.store).socket))
        self.made.kill_child("gateway")
        self._next_ready()

    def _next_ready(self) -> None:
        self.made.ready = self.appliance.wait_for("ready", since=self._said)
        self._said = len(self.appliance.events)

    def start_silos(self) -> None:
        """Processes first, which take longer."""
        for name in (*PROCESSES, *DRIVEN):
            ports = self._ports(name)
            if name in DRIVEN:
                self.driven[name] = DrivenSilo(
                    self.made,
                    name,
                    ports,
                    machine_random=self._marked(SEALING_SEED_BYTES, Kind.SEALING_KEY),
                    body_random=self._marked(CONTENT_KEY_BYTES, Kind.CONTENT_KEY),
                )
            else:
                self.made.write_silo(name, ports)
                told = {
                    "gradient": self.markers.data(Kind.CONTROL).hex(),
                    "place": PLACE[Kind.CONTROL],
                    "average": self.markers.data(Kind.FLOAT_BUFFER).hex(),
                    "count": self.markers.data(Kind.INTEGER_BUFFER).hex(),
                    "metrics": SHARED,
                }
                (self.made.folder / name / "canary.json").write_text(json.dumps(told))
                self.processes[name] = self.made.start_silo(name)

    def close(self) -> None:
        for silo in self.driven.values():
            silo.close()
        for recorder in self._recorders():
            recorder.close()

    @property
    def enclave(self) -> int:
        """Its pid now."""
        return int(self.made.ready["enclave_pid"])

    def _ports(self, name: str) -> Ports:
        if name not in RECORDED:
            return self.made.ports
        enrolment, enrolment_port = record_tls(self.made.ports.enrolment)
        session, session_port = record_tls(self.made.ports.federation, self.made.folder / name / "credential.pem")
        self._record("enrolment port", enrolment)
        self._record("federation port", session)
        return Ports(enrolment=enrolment_port, federation=session_port)

    def _record(self, what: str, recorder: Recorder) -> None:
        self.recorders.setdefault(what, []).append(recorder)

    def _recorders(self) -> Iterator[Recorder]:
        for recorders in self.recorders.values():
            yield from recorders

    def _marked(self, size: int, kind: Kind) -> Callable[[int], bytes]:
        """Randomness that gives a marker where a secret key of this size is made of it."""

        def random(wanted: int) -> bytes:
            if wanted != size:
                return os.urandom(wanted)
            self.keys_made[str(kind)] += 1
            return self.markers.key(kind, size)

        return random

    # Rounds

    def open_round(self) -> dict[str, Train]:
        """Wait until an attempt after the last one that this returned was announced to the driven silos."""

        def look() -> dict[str, Train] | None:
            tasks = {name: task for name, silo in self.driven.items() if (task := silo.newest()) is not None}
            orders = {(task.entry.round, task.entry.attempt) for task in tasks.values()}
            return tasks if len(tasks) == len(DRIVEN) and len(orders) == 1 and min(orders) > self._order else None

        tasks = wait_until(look, "a round to be announced")
        self._order = tasks[DRIVEN[0]].entry.round, tasks[DRIVEN[0]].entry.attempt
        return tasks

    def wait_for_processes(self, entry: RoundOpened, *names: str) -> None:
        """Wait until the processes among the silos have submitted to this attempt."""
        for name in names or PROCESSES:
            self.processes[name].wait_for("submitted", round=entry.round, attempt=entry.attempt)

    def sections(self, task: Train, kind: Kind) -> Sections:
        """An update with a marker of its own; in the first round with that of the controls too, as all silos' are."""
        sections = allocate_sections(self.driven[DRIVEN[0]].form.layout, _SECTIONS)
        if task.entry.round == 1:
            plant(sections[Section.PARAMETERS], self.markers, Kind.CONTROL)
        plant(sections[Section.PARAMETERS], self.markers, kind)
        fill(sections[Section.FLOAT_BUFFERS], self.markers, Kind.FLOAT_BUFFER)
        fill(sections[Section.INTEGER_BUFFERS], self.markers, Kind.INTEGER_BUFFER)
        return sections

    def submit(self, name: str, task: Train) -> None:
        """An update as it should be."""
        silo = self.driven[name]
        metadata = UpdateMetadata(steps=1, step_size_sum=0.5, metrics=SHARED | (OWN if name == DRIVEN[0] else {}))
        silo.submit(silo.seal(task, self.sections(task, Kind.UPDATE), metadata))

    @contextmanager
    def stopped_in(self, work: Callable[[], object], *mebibytes: float) -> Iterator[Iterator[None]]:
        """Do some work, and stop the enclave each time that it has read so much; it goes on with each next step.

        How far an enclave is shows in what it has read: it reads a chunk, opens it, computes, and reads the next.
        """

        def stops(start: int) -> Iterator[None]:
            for mark in mebibytes:
                deadline = time.monotonic() + PATIENCE_SECONDS
                while bytes_read(self.enclave) < start + mark * _MEBIBYTE:
                    if time.monotonic() > deadline:
                        raise AssertionError(f"the enclave does not read {mark} MiB")
                    time.sleep(0.0001)
                with stopped(self.enclave):
                    yield

        with ThreadPoolExecutor(1) as pool:
            steps, working = stops(bytes_read(self.enclave)), pool.submit(work)
            try:
                yield steps
            finally:
                steps.close()
            working.result(PATIENCE_SECONDS)

    # Searching

    def learn(self, words: Mapping[str, bytes]) -> None:
        """Search for these from now on."""
        for name, data in words.items():
            self.markers.learn(name, data)

    def inside(self, *, whole: bool = False) -> set[str]:
        """Which markers are in the enclave's memory; `whole`: and which metrics and keys, which takes longer."""
        search = self.markers.found_in if whole else self.markers.markers_in
        return search(memory(self.enclave)) - PUBLIC

    def outside(self) -> dict[str, set[str]]:
        """What is found at each place that the operator can look at."""
        return {name: self.markers.found_in(look()) for name, look in self.places().items()}

    def places(self) -> dict[str, Callable[[], Iterable[bytes]]]:
        """Everything outside the enclave that the operator can look at."""
        pids = {who: self.made.ready[f"{who}_pid"] for who in ("supervisor", "gateway", "enclave")}
        operator = self.made.folder / "appliance"
        return {
            "gateway's memory": lambda: memory(pids["gateway"]),
            "supervisor's memory": lambda: memory(pids["supervisor"]),
            "open files": lambda: (data for pid in pids.values() for data in open_files(pid, but_in=operator)),
            "arguments and environments": lambda: (data for pid in pids.values() for data in started_with(pid)),
            "store and spool": lambda: files(operator),
            "log lines": lambda: [self.appliance.log.read_bytes(), self.appliance.output.encode()],
            "temporary files": lambda: new_files(self.began, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")),
        } | {name: lambda recorders=recorders: self._news(recorders) for name, recorders in self.recorders.items()}

    def _news(self, recorders: list[Recorder]) -> Iterator[bytes]:
        """What passed since the last search."""
        for recorder in recorders:
            start = self._searched.get(recorder, 0)
            data = recorder.recorded_from(max(start - OVERLAP_BYTES, 0))
            self._searched[recorder] = max(start - OVERLAP_BYTES, 0) + len(data)
            yield data


def network(markers: Markers) -> torch.nn.Module:
    """The model that all start from."""
    model = _SCRIPT["Canary"]()
    plant(model.weight, markers, Kind.MODEL)
    return model


def plant(vector: Tensor, markers: Markers, kind: Kind) -> None:
    """Put a marker at its place in every kilo of coordinates."""
    _SCRIPT["plant"](vector, markers.numbers(kind), PLACE[kind])


def fill(buffer: Tensor, markers: Markers, kind: Kind) -> None:
    """Make all of a buffer a marker."""
    _SCRIPT["fill"](buffer, markers.numbers(kind))
