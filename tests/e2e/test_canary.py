"""A canary: what an update and the model hold is found in the enclave's memory during a merge, and nowhere else.

"Nowhere else": the gateway's and the supervisor's memory, every file of the store and the spool, every log line, the
bytes on the socket between gateway and enclave, and those on both ports behind TLS, which the test ends itself.

A marker is 64 float32 values whose low two bytes are always the same, so that any 16 of its bytes, wherever they lie
and however they are aligned, contain ten that are quickly found and easily told from chance.
"""

import os
import re
import resource
import runpy
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from random import Random

import pytest
import torch
from process_federation import Ports, ProcessFederation, Running, exit_codes, federation, stopped
from recorders import Recorder, record_tls, record_unix_socket

from appliance.places import Places
from audit.entries import RoundCommitted

torch.set_num_threads(1)
TASK = Path(__file__).with_name("canary.py")
ALL = ("silo-0", "silo-1", "silo-2", "silo-3")
OWNERS = ("alpenklinik", "baltic-bank", "cantone", "delta-telecom")
CARRIER, ROUNDS = "silo-1", 3
_PIECE_BYTES, _OVERLAP_BYTES = 2**24, 32
_CAP_SYS_PTRACE = 19
_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True)
class Marker:
    """The bytes to look for."""

    data: bytes
    pattern: re.Pattern[bytes] = field(compare=False)

    @classmethod
    def make(cls, low: bytes, seed: int) -> "Marker":
        """64 numbers between ½ and 2 in magnitude, with `low` as their low two bytes (little-endian)."""
        rng = Random(seed)
        data = b"".join(low + bytes([rng.randrange(256), rng.choice((0x3F, 0xBF))]) for _ in range(64))
        return cls(data, re.compile(re.escape(low) + b".." + re.escape(low) + b".." + re.escape(low), re.DOTALL))

    def is_in(self, data: bytes) -> bool:
        """Whether any 16 consecutive bytes of the marker are."""
        return any(match[0] in self.data for match in self.pattern.finditer(data))

    def values(self) -> torch.Tensor:
        return torch.frombuffer(bytearray(self.data), dtype=torch.float32)


MODEL, UPDATE = Marker.make(b"\x3c\xa7", 1), Marker.make(b"\xc5\x5a", 2)


def found_in(pieces: Iterator[bytes]) -> set[str]:
    """Which markers are in consecutive pieces that overlap."""
    found: set[str] = set()
    for piece in pieces:
        found |= {name for name, marker in (("model", MODEL), ("update", UPDATE)) if marker.is_in(piece)}
    return found


def memory(pid: int) -> Iterator[bytes]:
    """All that a process has in memory, but what it only maps from files."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for start, end in resident(pid):
            for at in range(start, end, _PIECE_BYTES):
                try:
                    yield os.pread(mem.fileno(), min(_PIECE_BYTES + _OVERLAP_BYTES, end - at), at)
                except OSError:  # Gone since, or the kernel's own.
                    continue


def resident(pid: int) -> Iterator[tuple[int, int]]:
    """The ranges of addresses that were ever touched (proc(5): pagemap's bits 63, present, and 62, swapped)."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in maps:
            addresses, permissions, _, _, _, *path = line.split(maxsplit=5)
            if permissions[0] != "r" or (permissions[1] != "w" and path and path[0].startswith("/")):
                continue
            start, end = (int(address, 16) // _PAGE_BYTES for address in addresses.split("-"))
            entries = array("Q", os.pread(pagemap.fileno(), 8 * (end - start), 8 * start))
            for touched, pages in groupby(enumerate(entries, start), lambda entry: entry[1] >> 62 > 0):
                if touched:
                    numbers = [number for number, _ in pages]
                    yield numbers[0] * _PAGE_BYTES, (numbers[-1] + 1) * _PAGE_BYTES


def files(folder: Path) -> Iterator[bytes]:
    """All files below a folder, whole; some may go while they are read."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                yield path.read_bytes()
        except FileNotFoundError:
            continue


@dataclass
class Seen:
    """Where the markers were found."""

    enclave: set[str]
    enclave_at_the_end: set[str]
    while_paused: dict[str, set[str]]
    at_the_end: dict[str, set[str]]
    controls: dict[str, bool]
    hardening: dict[str, str]
    published: list[int]
    codes: dict[str, int]


def may_read_memory() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return os.geteuid() == 0 and bool(int(effective, 16) >> _CAP_SYS_PTRACE & 1)


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    if not may_read_memory():
        pytest.skip("needs root with CAP_SYS_PTRACE, to read the memory of other processes")
    replace = {
        "rounds = 40": f"rounds = {ROUNDS}",
        '"scaffold"': '"fedavg"',
        "local_steps = 10": "local_steps = 1",
    }
    with federation(
        network=runpy.run_path(str(TASK))["Vector"](MODEL.values()), task=TASK, replace=replace, owners=OWNERS
    ) as made:
        yield look(made)


def look(made: ProcessFederation) -> Seen:
    """Run a federation behind recorders, stop its enclave in the middle of a merge, and search everything."""
    appliance = made.start_appliance()
    hardening = hardening_of(made.ready["enclave_pid"])
    # The next gateway meets a recorder in place of the enclave.
    wire = {"unix socket": record_unix_socket(Places.of(made.store).socket)}
    said = len(appliance.events)
    made.kill_child("gateway")
    made.ready = appliance.wait_for("ready", since=said)
    for name in ALL:
        enrolment, enrolment_port = record_tls(made.ports.enrolment)
        session, session_port = record_tls(made.ports.federation, made.folder / name / "credential.pem")
        wire |= {f"{name}'s enrolment": enrolment, f"{name}'s session": session}
        made.write_silo(name, Ports(enrolment=enrolment_port, federation=session_port))
    (made.folder / CARRIER / "marker").write_bytes(UPDATE.data)
    silos = [made.start_silo(name) for name in ALL]

    enclave, gateway = made.ready["enclave_pid"], made.ready["gateway_pid"]
    with merge_paused(made, enclave, silos) as in_enclave:
        paused = places(made, appliance, wire)
        controls = {
            "gateway's memory": any(b"strongroom-blob/1" in piece for piece in memory(gateway)),
            "spool": sum(data.startswith(b"strongroom-blob/1") for data in files(made.store / "spool")) == len(ALL),
            "store": any(data.startswith(b"strongroom-blob/1") for data in files(made.store / "models")),
        }
    codes = exit_codes(silos)
    in_enclave_at_the_end = found_in(memory(enclave))
    ended = places(made, appliance, wire)
    for name, recorder in wire.items():
        sealed = b"strongroom-blob/1" if "session" in name else b"silo"
        controls[name] = sealed in recorder.recorded
        recorder.close()
    return Seen(
        enclave=in_enclave,
        enclave_at_the_end=in_enclave_at_the_end,
        while_paused=paused,
        at_the_end=ended,
        controls=controls,
        hardening=hardening,
        published=made.published(),
        codes=codes,
    )


@contextmanager
def merge_paused(made: ProcessFederation, enclave: int, silos: list[Running]) -> Iterator[set[str]]:
    """Stop the enclave in a merge that has opened chunks: the cohort is committed, the next model's body unfinished.

    Gives what is found in the enclave's memory then; it goes on afterwards.
    """
    deadline, found = time.monotonic() + 90, set[str]()
    while time.monotonic() < deadline and all(silo.running for silo in silos):
        time.sleep(0.0005)
        if any(name.endswith(".tmp") for name in os.listdir(made.store / "models")):
            with stopped(enclave):
                if isinstance(made.log()[-1], RoundCommitted):
                    found = found_in(memory(enclave))
                    if found == {"model", "update"}:
                        yield found
                        return
    raise AssertionError("no merge was caught", found, [silo.errors for silo in silos])


def places(made: ProcessFederation, appliance: Running, wire: dict[str, Recorder]) -> dict[str, set[str]]:
    """Everything outside the enclave that the operator can look at, and what is found there."""
    found = {
        "gateway's memory": found_in(memory(made.ready["gateway_pid"])),
        "supervisor's memory": found_in(memory(made.ready["supervisor_pid"])),
        "store and spool": found_in(files(made.store)),
        "log lines": found_in(iter([appliance.log.read_bytes(), repr(appliance.events).encode()])),
    }
    return found | {name: found_in(iter([recorder.recorded])) for name, recorder in wire.items()}


def hardening_of(pid: int) -> dict[str, str]:
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    core = next(line for line in limits if line.startswith("Max core file size"))
    return {"core": core.removeprefix("Max core file size").split()[0], "locked": status["VmLck"].split()[0]}


def test_the_markers_are_in_the_enclaves_memory_while_it_merges(seen: Seen) -> None:
    """The positive control: without it the other tests could not fail."""
    assert seen.enclave == {"model", "update"}


def test_the_markers_are_nowhere_else_while_the_enclave_merges(seen: Seen) -> None:
    assert seen.while_paused == {place: set() for place in seen.while_paused}


def test_the_markers_are_nowhere_else_at_the_end(seen: Seen) -> None:
    assert seen.at_the_end == {place: set() for place in seen.at_the_end}
    assert {"gateway's memory", "store and spool", "log lines", "unix socket"} < set(seen.at_the_end)
    assert len(seen.at_the_end) == 5 + 2 * len(ALL)


def test_the_enclave_keeps_no_plaintext_once_its_merges_are_over(seen: Seen) -> None:
    assert seen.enclave_at_the_end == set()


def test_each_place_that_was_searched_held_what_passes_there(seen: Seen) -> None:
    """Sealed blobs lie in the spool, and pass through the gateway and the ports: the search saw the right bytes."""
    assert seen.controls == dict.fromkeys(seen.controls, True)


def test_the_enclave_leaves_no_core_dump_and_stays_out_of_swap(seen: Seen) -> None:
    assert seen.hardening["core"] == "0"
    assert int(seen.hardening["locked"]) > 0


def test_the_federation_went_on_after_the_pause(seen: Seen) -> None:
    assert seen.published == list(range(1, ROUNDS + 1))
    assert seen.codes == dict.fromkeys(ALL, 0)


@pytest.mark.parametrize("offset", range(0, 241, 16))
def test_any_sixteen_bytes_of_a_marker_are_found(offset: int) -> None:
    for marker in (MODEL, UPDATE):
        for start in range(offset, min(offset + 16, 241)):
            assert marker.is_in(b"x" * 3 + marker.data[start : start + 16] + b"y" * 5)
        halved = marker.values() / 2
        assert not marker.is_in(halved.numpy().tobytes())
