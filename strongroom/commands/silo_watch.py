"""How a silo's events are shown: a progress bar a round on a terminal, plain lines elsewhere, JSON lines on request."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from protocol.errors import ProtocolError, RefusedError
from silo_client.events import Event, EventKind, Observer

_COLOURS = {
    EventKind.WAITING: "yellow",
    EventKind.LATE: "yellow",
    EventKind.CONTROL_RESET: "yellow",
    EventKind.REFUSED: "bold red",
    EventKind.FINISHED: "bold green",
}


class Watcher(Observer, Protocol):
    """An observer that a command ends with."""

    def refused(self, error: ProtocolError) -> None:
        """The session ended with this error."""
        ...


@contextmanager
def watching(*, as_json: bool) -> Iterator[Watcher]:
    """The way to watch that fits where stdout goes."""
    if as_json:
        yield JsonLines(sys.stdout)
        return
    console = Console()
    if not console.is_terminal:
        yield Lines()
        return
    with _progress(console) as progress:
        yield Bars(progress)


class JsonLines:
    """One JSON object an event."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def event(self, event: Event) -> None:
        """Write it at once."""
        self._write({"event": event.kind.value, "text": event.text, **event.facts})

    def step(self, *, round_number: int, done: int, total: int) -> None:
        """Steps are no events."""

    def refused(self, error: ProtocolError) -> None:
        """Write the refusal with its parts, and once more in words."""
        facts: dict[str, object] = {}
        if isinstance(error, RefusedError):
            refusal = error.refusal
            facts = {
                "code": refusal.code.value,
                "expected": refusal.expected,
                "found": refusal.found,
                "remedy": refusal.remedy,
            }
        self._write({"event": EventKind.REFUSED.value, "text": str(error), **facts})
        print(error, file=sys.stderr, flush=True)

    def _write(self, value: dict[str, object]) -> None:
        # In one piece: two threads tell.
        self._out.write(json.dumps(value) + "\n")
        self._out.flush()


class Lines:
    """A plain line an event, for logs."""

    def event(self, event: Event) -> None:
        """Print it."""
        print(event.text, flush=True)

    def step(self, *, round_number: int, done: int, total: int) -> None:
        """Nothing."""

    def refused(self, error: ProtocolError) -> None:
        """Print it on stderr."""
        print(error, file=sys.stderr, flush=True)


class Bars:
    """A progress bar for the round that is being trained, and the events above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None

    def event(self, event: Event) -> None:
        """Print it above the bar; a new round's is the bar."""
        if event.kind in (EventKind.ROUND, EventKind.FINISHED):
            self._drop()
        if event.kind is EventKind.ROUND:
            self._bar = self._progress.add_task(event.text, total=float(event.facts["local_steps"] or 0))
        else:
            self._progress.console.print(event.text, style=_COLOURS.get(event.kind), markup=False, highlight=False)

    def step(self, *, round_number: int, done: int, total: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._progress.update(self._bar, completed=done)

    def refused(self, error: ProtocolError) -> None:
        """Print it, without the bar."""
        self._drop()
        self._progress.stop()
        print(error, file=sys.stderr, flush=True)

    def _drop(self) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
