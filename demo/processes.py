"""The demonstration's processes: one appliance and four sites, and the events that they print."""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from demo.workspace import STRONGROOM, StepFailedError

_READY_SECONDS = 60.0
_END_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event of one process, and when it came (seconds, monotonic)."""

    who: str
    process: "Process"
    event: dict[str, Any]
    at: float


class Process:
    """A `strongroom … --json` process; its events go to a queue, its stderr to a file and the last lines to memory."""

    def __init__(
        self,
        who: str,
        arguments: list[str | Path],
        cwd: Path,
        events: "queue.Queue[Told]",
        program: Sequence[str] = STRONGROOM,
    ) -> None:
        self.who = who
        self._log = (cwd / f"{who}.log").open("ab")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [*program, *map(str, arguments)], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=self._log
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, events), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes], events: "queue.Queue[Told]") -> None:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            events.put(Told(who=self.who, process=self, event=event, at=time.monotonic()))
        events.put(Told(who=self.who, process=self, event={"event": "ended"}, at=time.monotonic()))

    def wait(self, seconds: float = _END_SECONDS) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise StepFailedError(f"{self.who} did not end within {seconds:.0f} s") from error
        finally:
            self._log.close()

    def kill(self) -> None:
        """SIGKILL: no good-bye."""
        self._process.kill()

    def stop(self) -> int:
        """SIGTERM, and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None


def wait_for(events: "queue.Queue[Told]", kind: str, who: str, seconds: float = _READY_SECONDS) -> Told:
    """The next event of a kind from one process, dropping others; raises `StepFailedError` if it ends or is late."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            told = events.get(timeout=left)
        except queue.Empty:
            break
        if told.who == who and told.event["event"] == kind:
            return told
        if told.who == who and told.event["event"] == "ended":
            raise StepFailedError(f"{who} ended before its {kind!r}; see {who}.log")
    raise StepFailedError(f"{who}: no {kind!r} within {seconds:.0f} s")
