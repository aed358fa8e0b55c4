"""The main job on real data: four sites, one appliance, an attacker's attempts, and an auditor afterwards."""

import queue
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.processes import Process, Told, wait_for
from demo.task import SITES
from demo.workspace import ROUNDS, STRONGROOM, TASK, StepFailedError, Workspace, strongroom

REFUSED_FIRST = "vienna"
KILLED = "lyon"
_KILLED_IN_ROUND = ROUNDS // 3
_SILENCE_SECONDS = 60.0
_REFUSED_EXIT_CODE = 3


@dataclass(slots=True)
class Course:
    """What the sites told, by round."""

    began: dict[int, float] = field(default_factory=dict)
    submitted: dict[int, set[str]] = field(default_factory=dict)
    accuracy: dict[int, float] = field(default_factory=dict)
    loss: dict[int, float] = field(default_factory=dict)
    shown: int = 0


class Demonstration:
    """One run, in a folder of its own."""

    def __init__(self, workspace: Workspace, console: Console) -> None:
        self.workspace = workspace
        self.console = console
        self.course = Course()
        self._events: queue.Queue[Told] = queue.Queue()
        self._processes: dict[str, Process] = {}

    def run(self) -> Course:
        """Everything up to the last published round; raises `StepFailedError`."""
        try:
            self._prepare()
            self._start()
            self._federate()
        finally:
            for process in self._processes.values():
                process.kill()
        return self.course

    def _prepare(self) -> None:
        digest = self.workspace.make()
        self._say(f"agreement [bold]{digest}[/] between {', '.join(SITES)}")

    def _start(self) -> None:
        config = self.workspace.write_appliance()
        arguments: list[str | Path] = ["appliance", "serve", "--config", config, "--json"]
        program = self.workspace.appliance_program
        self._processes["appliance"] = Process("appliance", arguments, config.parent, self._events, program)
        ready = wait_for(self._events, "ready", "appliance").event
        self._say(f"appliance ready: enclave and gateway in processes of their own, boot {ready['boot_id'][:16]}…")
        for name in SITES:
            self.workspace.write_site(name, enrolment=ready["enrolment"], federation=ready["federation"])
        self._refused_at_first()
        for name in SITES:
            self._site(name)

    def _refused_at_first(self) -> None:
        name = REFUSED_FIRST
        self.workspace.change_a_byte(name)
        self._say(f"{name} comes with an agreement that differs by one byte …")
        self._site(name)
        told = wait_for(self._events, "refused", name).event
        if self._processes.pop(name).wait() != _REFUSED_EXIT_CODE:
            raise StepFailedError(f"{name} was to be refused")
        self.console.print(f"    refused: {told['code']}", style="red", highlight=False)
        self.console.print(f"    expected {told['expected']}\n    found    {told['found']}", highlight=False)
        self.workspace.restore(name)
        self._say("… and returns with the right one")

    def _site(self, name: str) -> None:
        folder = self.workspace.site(name)
        self._launch(name, ["silo", "train", "--config", folder / "silo.toml", "--json", TASK, folder], folder)

    def _launch(self, who: str, arguments: list[str | Path], cwd: Path) -> None:
        self._processes[who] = Process(who, arguments, cwd, self._events)

    def _federate(self) -> None:
        self._say("rounds, each with the accuracy of the model that it began with:")
        finished: set[str] = set()
        killed: Process | None = None
        while len(finished) < len(SITES):
            told = self._next()
            event, kind = told.event, told.event["event"]
            if told.process is not self._processes.get(told.who):
                continue
            if kind == "ended" and told.who not in finished and told.process is not killed:
                raise StepFailedError(f"{told.who} ended too early; see {told.who}.log in its folder")
            if kind == "enrolled":
                self._say(f"{told.who} enrolled: the appliance's evidence and its own were appraised")
            elif kind == "round":
                self._begin(told)
                if told.who == KILLED and event["round"] == _KILLED_IN_ROUND and killed is None:
                    killed = told.process
                    killed.kill()
                    killed.wait()
                    self._say(
                        f"{KILLED} is killed in the middle of round {event['round']} (SIGKILL), and started again"
                    )
                    # At once: a process takes seconds to start, and the rounds that it misses a tenth of one.
                    self._site(KILLED)
            elif kind == "submitted":
                self.course.submitted.setdefault(event["round"], set()).add(told.who)
            elif kind == "finished":
                finished.add(told.who)
        self._show(ROUNDS, time.monotonic())
        for name in SITES:
            if self._processes[name].wait() != 0:
                raise StepFailedError(f"{name} failed; see {name}.log in its folder")
        # A container engine may end it as it likes: nothing that was promised is lost, as the audit shows.
        if self._processes["appliance"].stop() != 0 and self.workspace.appliance_program == STRONGROOM:
            raise StepFailedError("the appliance did not end well; see appliance.log in its folder")

    def _next(self) -> Told:
        try:
            return self._events.get(timeout=_SILENCE_SECONDS)
        except queue.Empty as error:
            raise StepFailedError(f"nothing happened for {_SILENCE_SECONDS:.0f} s") from error

    def _begin(self, told: Told) -> None:
        """A site begins a round: the one before is over, and its metrics have come with the new model."""
        course, event = self.course, told.event
        number = event["round"]
        if "last_accuracy" in event:
            course.accuracy[number - 1] = event["last_accuracy"]
            course.loss[number - 1] = event["last_loss"]
        if number not in course.began:
            course.began[number] = told.at
            self._show(number - 1, told.at)

    def _show(self, number: int, ended: float) -> None:
        course = self.course
        if number <= course.shown or number not in course.began:
            return
        course.shown = number
        cohort = ", ".join(name for name in SITES if name in course.submitted.get(number, ()))
        # The accuracy that sites measure is that of the model which the round began with.
        measured = (
            f"accuracy {course.accuracy[number]:.3f}  loss {course.loss[number]:.3f}  "
            if number in course.accuracy
            else ""
        )
        seconds = ended - course.began[number]
        self.console.print(f"  round {number:>2}  {measured}{seconds:4.1f} s  cohort {cohort}", highlight=False)

    def _say(self, text: str) -> None:
        self.console.print(f"• {text}", highlight=False)


def audit(workspace: Workspace, console: Console) -> None:
    """Verify the log, then a copy of it in which one byte was changed; raises `StepFailedError` on another verdict."""
    log = workspace.store / "log"
    console.print(
        strongroom("audit", "verify", workspace.store, "--agreement", workspace.agreement, cwd=workspace.folder)
    )
    copy = workspace.folder / "tampered"
    shutil.copytree(log, copy / "log")
    victim = max((file for file in (copy / "log" / "tile" / "entries").rglob("*") if file.is_file()), key=_width)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    console.print(f"• one bit of {victim.relative_to(copy)} is flipped, in a copy:", highlight=False)
    console.print(
        strongroom("audit", "verify", copy, "--agreement", workspace.agreement, cwd=workspace.folder, expect=1)
    )


def _width(file: Path) -> int:
    return file.stat().st_size


def results(rows: list[tuple[str, float]]) -> Table:
    """Test accuracies, as a table."""
    table = Table(title="test accuracy after the same number of steps")
    table.add_column("trained")
    table.add_column("accuracy", justify="right")
    for name, accuracy in rows:
        table.add_row(name, f"{accuracy:.3f}", style="bold" if name.startswith("SCAFFOLD") else None)
    return table
