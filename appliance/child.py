"""One child process of the supervisor: how it is started, what it says, how often it died.

The enclave's process is the supervisor's child and never the gateway's, which could otherwise choose its code. Both
start with no environment, in isolated mode (no user's packages, no PYTHON* variables), gain no privileges, leave no
core dumps, and die with the supervisor.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_LINE_LIMIT_BYTES = 8192
_STEADY_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Numeric user and group to run under."""

    user: int
    group: int


class Lines:
    """The lines that arrive through a pipe, piece by piece; what is too long is cut. `ended`: no more will come."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.ended = False
        self._rest = b""
        os.set_blocking(pipe.fileno(), False)

    def read(self) -> Iterator[str]:
        """The lines that are complete now, without their ends."""
        try:
            data = os.read(self.pipe.fileno(), 65_536)
        except BlockingIOError:
            return
        self.ended = not data
        *complete, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_LIMIT_BYTES or (self.ended and self._rest):
            complete.append(self._rest)
            self._rest = b""
        for line in complete:
            yield line[:_LINE_LIMIT_BYTES].decode("utf-8", "replace")


def isolated_interpreter() -> list[str]:
    """`python -I`, and `-O` if this process runs under it: what the environment says of it, `-I` doesn't read."""
    return [sys.executable, "-I", *(["-O"] if sys.flags.optimize else [])]


class Child:
    """A process that is to be there: `python -I -m <module> <arguments>`."""

    def __init__(self, name: str, module: str, run_as: Credentials | None) -> None:
        self.name = name
        self.restarts = 0
        self.failures = 0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._proved = False
        self._module = module
        self._run_as = run_as
        self._started = 0.0

    def start(self, arguments: Sequence[str]) -> tuple[Lines, Lines]:
        """Start it; returns its standard output and its standard error."""
        parent = os.getpid()

        def before_exec() -> None:
            # After the change of user, which would clear it; then make sure that the parent was still there to see.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        self._started, self._proved = time.monotonic(), False
        self.process = subprocess.Popen(
            [*isolated_interpreter(), "-m", self._module, *arguments],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509 (the supervisor has one thread)
            user=self._run_as.user if self._run_as else None,
            group=self._run_as.group if self._run_as else None,
            extra_groups=[] if self._run_as else None,
        )
        out, err = self.process.stdout, self.process.stderr
        if out is None or err is None:
            raise RuntimeError("a child without pipes")
        return Lines(out), Lines(err)

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self.process.pid if self.process is not None else None

    def ended(self) -> int | None:
        """Its exit status if it ended since the last call (negative: the signal that killed it)."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is not None:
            self.process = None
        return status

    def prove(self) -> None:
        """Its work has come to something: when this process ends, however soon, it hasn't failed at once."""
        self._proved = True

    def schedule_restart(self) -> float:
        """Count the failure and set `start_at` (monotonic). Returns the pause: longer, the oftener it fails.

        Failures count in a row: of processes that ended within seconds and before their work had come to anything.
        """
        now = time.monotonic()
        steady = self._proved or now - self._started > _STEADY_SECONDS
        self.failures = 1 if steady else self.failures + 1
        self.restarts += 1
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self.failures - 1), _LONGEST_PAUSE_SECONDS)
        self.start_at = now + pause
        return pause

    def end(self, grace_seconds: float) -> None:
        """Ask it to end, and kill it if it doesn't in time."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
