"""What happens to the canary's federation, chapter by chapter, and what was found where at each moment of it."""

import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import enclave_keys
from canary_federation import DRIVEN, PROCESSES, SHARED, CanaryFederation
from driven_silo import DrivenSilo
from markers import Kind
from nursery import nursery
from process_federation import stopped, wait_until
from process_search import children, mappings, status
from torch import Tensor

from audit.entries import RoundAbandoned, UpdateRefused
from protocol.layout import Section
from protocol.sealing import BlobKind
from protocol.sealing.bytes_io import read
from protocol.update import UpdateMetadata
from silo_client.machine import Train
from silo_client.state import SealedUpdate

MERGES, MERGED = "while it merges", "after a merge"
JUDGES, REFUSED = "while it judges an update", "after refusals"
CRASHED, TRIED_AGAIN = "after a crash in a merge", "after that round was tried again"
WAIT, ENDED = "while updates wait", "after it was killed and started, at the end"
MOMENTS = (MERGES, MERGED, JUDGES, REFUSED, CRASHED, TRIED_AGAIN, WAIT, ENDED)
# Numbers and keys that a merge brings into the enclave's hands; the refused update's are there while it is judged.
IN_A_MERGE = {
    str(kind)
    for kind in (Kind.MODEL, Kind.CONTROL, Kind.UPDATE, Kind.FLOAT_BUFFER, Kind.INTEGER_BUFFER, Kind.CONTENT_KEY)
}
_GOOD = UpdateMetadata(steps=1, step_size_sum=0.5, metrics=SHARED)
_BAD_METRIC = ("CANARY.REFUSED", "0.71958320461824")


class _Unreadable:
    """Metadata that is none, and says something secret."""

    def encode(self) -> bytes:
        name, value = _BAD_METRIC
        return f'{{"metrics":{{"{name}":"{value}"}},"step_size_sum":"0.5","steps":1}}'.encode()


@dataclass
class Seen:
    """What the operator saw, by moment or by place."""

    inside: dict[str, set[str]] = field(default_factory=dict)
    outside: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    dead_silos_files: dict[str, set[str]] = field(default_factory=dict)
    download: dict[str, set[str]] = field(default_factory=dict)
    silos_said: dict[str, set[str]] = field(default_factory=dict)
    cores: set[tuple[str, int]] = field(default_factory=set)
    children: list[str] = field(default_factory=list)
    mappings: list[tuple[str, set[str]]] = field(default_factory=list)
    enclave_status: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    abandoned: list[str] = field(default_factory=list)
    keys_made: dict[str, int] = field(default_factory=dict)


def tell(canary: CanaryFederation) -> Seen:
    """The whole story."""
    seen = Seen()
    nursery()  # Loads while the appliance does.
    canary.start_appliance()
    canary.start_silos()
    _merge(canary, seen)
    _refuse(canary, seen)
    _crash(canary, seen)
    _kill(canary, seen)
    _ask(canary, seen)
    return seen


def _merge(canary: CanaryFederation, seen: Seen) -> None:
    """Rounds, until the enclave was stopped with all that a merge brings in its hands."""
    inside = seen.inside[MERGES] = set()
    while not inside >= IN_A_MERGE:
        tasks = canary.open_round()
        canary.submit(DRIVEN[1], tasks[DRIVEN[1]])
        canary.wait_for_processes(tasks[DRIVEN[1]].entry)
        # 7 MiB to judge the last update; then columns of the model and four updates, 35 at least: first of parameters,
        # then of float buffers, then of integer buffers.
        with canary.stopped_in(lambda: canary.submit(DRIVEN[0], tasks[DRIVEN[0]]), 17, 29, 33, 37, 40) as stops:  # noqa: B023
            for _ in stops:
                if MERGES not in seen.outside:
                    canary.learn(enclave_keys.of_the_boot(canary.made, canary.enclave))
                    inside |= canary.inside(whole=True)
                    seen.outside[MERGES] = canary.outside()
                inside |= canary.inside()
                if inside >= IN_A_MERGE:
                    break
        canary.made.wait_published(tasks[DRIVEN[0]].entry.round)
    canary.learn(enclave_keys.of_the_state(canary.made))
    seen.inside[MERGED], seen.outside[MERGED] = canary.inside(whole=True), canary.outside()


def _refuse(canary: CanaryFederation, seen: Seen) -> None:
    """A round in which two silos send nothing that can be used, full of a marker all the same."""
    name, text = _BAD_METRIC
    canary.learn({"refused metric's name": name.encode(), "refused metric's text": text.encode()})
    tasks = canary.open_round()
    (first, task), (second, _) = ((canary.driven[name], tasks[name]) for name in DRIVEN)
    _look_at_download(canary, seen, first, task)
    inside = seen.inside[JUDGES] = set()
    while str(Kind.REFUSED) not in inside:
        # The last chunk does not open, all before it do. This costs the silo nothing, and it may try again.
        update = second.seal(task, _marked(canary, task), _GOOD)
        _flip_a_byte(second.path_of(update), from_the_end=100)
        with canary.stopped_in(lambda: _be_refused(seen, second, update, "changed bytes"), 4) as stops:  # noqa: B023
            for _ in stops:
                inside |= canary.inside()
                if str(Kind.REFUSED) in inside:
                    seen.outside[JUDGES] = canary.outside()
    another_round = second.seal(task, _marked(canary, task), _GOOD, round=task.entry.round + 1)
    _be_refused(seen, second, another_round, "another round")
    unreadable = first.seal(task, _marked(canary, task), _Unreadable())  # type: ignore[arg-type]
    _be_refused(seen, first, unreadable, "metadata")
    _be_refused(seen, second, second.seal(task, _marked(canary, task, float("nan")), _GOOD), "not finite")
    seen.inside[REFUSED], seen.outside[REFUSED] = canary.inside(), canary.outside()
    canary.made.wait_published(task.entry.round)


def _look_at_download(canary: CanaryFederation, seen: Seen, silo: DrivenSilo, task: Train) -> None:
    source = silo.download(task.model, BlobKind.MODEL)
    sections = silo.open(source, task).values()
    seen.download = {
        "as it lies there": canary.markers.found_in([read(source, 0, source.size())]),
        "opened": canary.markers.found_in(values.numpy().tobytes() for values in sections),
        "files with a name": {path.name for path in silo.downloads.iterdir()},
    }


def _crash(canary: CanaryFederation, seen: Seen) -> None:
    """A merge that ends with SIGSEGV, where the operator has allowed core dumps. A silo was killed just before."""
    before = _possible_cores(canary)
    while CRASHED not in seen.outside:
        tasks = canary.open_round()
        (first, task), (second, _) = ((canary.driven[name], tasks[name]) for name in DRIVEN)
        canary.submit(second.name, task)
        canary.wait_for_processes(task.entry)
        if not seen.dead_silos_files:
            _kill_a_silo(canary, seen, PROCESSES[1])
        huge = first.seal(task, _marked(canary, task, 3e38), _GOOD)
        # Its refusal is the last verdict: what the three others sent is merged.
        with canary.stopped_in(lambda: _be_refused(seen, first, huge, "norm"), 17) as stops:  # noqa: B023
            for _ in stops:
                if canary.inside() >= {str(Kind.MODEL), str(Kind.CONTROL), str(Kind.UPDATE)}:
                    with stopped(canary.made.ready["supervisor_pid"]):
                        _let_it_dump_core(canary.enclave)
                        os.kill(canary.enclave, signal.SIGSEGV)
                        stops.close()
                        wait_until(lambda: status(canary.enclave)["State"].startswith("Z"), "the enclave to die")
                        seen.outside[CRASHED] = canary.outside()
    seen.cores = _possible_cores(canary) - before
    canary.ready_again()
    _finish_round(canary)
    seen.inside[TRIED_AGAIN], seen.outside[TRIED_AGAIN] = canary.inside(), canary.outside()


def _let_it_dump_core(pid: int) -> None:
    """The limit isn't all that keeps dumps away; but not every root may raise it (CAP_SYS_RESOURCE)."""
    with suppress(PermissionError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _kill_a_silo(canary: CanaryFederation, seen: Seen, name: str) -> None:
    """SIGKILL, with an update sealed and sent whose outcome is not known; it starts again."""
    canary.processes[name].kill()
    state = canary.made.folder / name / "state"
    paths = [path for path in state.rglob("*") if path.is_file()]
    seen.dead_silos_files = {
        str(path.relative_to(state)): canary.markers.found_in([path.read_bytes()]) for path in paths
    }
    canary.processes[name] = canary.made.start_silo(name)


def _kill(canary: CanaryFederation, seen: Seen) -> None:
    """The operator kills everything while accepted updates wait, and starts it again."""
    tasks = canary.open_round()
    canary.submit(DRIVEN[0], tasks[DRIVEN[0]])
    canary.wait_for_processes(tasks[DRIVEN[0]].entry)
    seen.inside[WAIT], seen.outside[WAIT] = canary.inside(), canary.outside()
    _note_lines(canary, seen)
    canary.appliance.kill()
    canary.start_appliance()
    _finish_round(canary)
    seen.inside[ENDED], seen.outside[ENDED] = canary.inside(), canary.outside()


def _ask(canary: CanaryFederation, seen: Seen) -> None:
    """What the processes are, and what they tell of themselves."""
    asked = canary.made.command("appliance", "status", "--json", "--config", "appliance.toml")
    seen.outside[ENDED]["status"] = canary.markers.found_in([asked.stdout.encode(), asked.stderr.encode()])
    for name in PROCESSES:
        said = [run.output + run.errors for run in canary.made.runs if run.name == name]
        seen.silos_said[name] = canary.markers.found_in(text.encode() for text in said)
    for name in DRIVEN:
        seen.silos_said[name] = canary.markers.found_in(repr(event).encode() for event in canary.driven[name].events)
    seen.children, seen.mappings = children(canary.enclave), mappings(canary.enclave)
    seen.enclave_status = status(canary.enclave)
    seen.refused = {entry.code for entry in canary.made.entries(UpdateRefused)}
    seen.abandoned = [entry.reason for entry in canary.made.entries(RoundAbandoned)]
    seen.keys_made = dict(canary.keys_made)
    _note_lines(canary, seen)


def _note_lines(canary: CanaryFederation, seen: Seen) -> None:
    seen.lines += [line for line in canary.appliance.errors.splitlines() if line.startswith("enclave | ")]


def _finish_round(canary: CanaryFederation) -> None:
    tasks = canary.open_round()
    for name in DRIVEN:
        canary.submit(name, tasks[name])
    canary.made.wait_published(tasks[DRIVEN[0]].entry.round)


def _marked(canary: CanaryFederation, task: Train, last: float | None = None) -> dict[Section, Tensor]:
    """An update with the marker of those that are refused; `last`: its last parameter."""
    sections = dict(canary.sections(task, Kind.REFUSED))
    if last is not None:
        sections[Section.PARAMETERS][-1] = last  # In the last chunk of parameters: the others are opened before it.
    return sections


def _be_refused(seen: Seen, silo: DrivenSilo, update: SealedUpdate, why: str) -> None:
    seen.refusals[why] = silo.refusal_of(update)


def _flip_a_byte(path: Path, *, from_the_end: int) -> None:
    data = bytearray(path.read_bytes())
    data[-from_the_end] ^= 1
    path.write_bytes(data)


def _possible_cores(canary: CanaryFederation) -> set[tuple[str, int]]:
    """What lies where the kernel would put a core dump (core(5)), since when: working folders, the pattern's folder."""
    pattern = Path(Path("/proc/sys/kernel/core_pattern").read_text().strip())
    folders = {Path("/"), Path.cwd(), *([pattern.parent] if pattern.is_absolute() else [])}
    paths = [path for folder in folders for path in folder.glob("*core*")] + [*canary.made.folder.rglob("*core*")]
    return {(str(path), path.stat().st_mtime_ns) for path in paths if path.is_file()}
