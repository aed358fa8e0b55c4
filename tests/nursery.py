"""Starts `strongroom …` processes in milliseconds: one process loads torch, gRPC and our packages once, and forks.

What is forked runs the command as its own process would: own pid, own files, own arguments; it can be killed like any
other. What a start costs, and that it works at all, the tests show that start their commands without a nursery.
"""

import atexit
import ctypes
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_REQUEST_BYTES = 2**16
_PR_SET_PDEATHSIG = 1


class Forked:
    """A process of the nursery's, as `subprocess.Popen` would show it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None
        self._ended = threading.Event()

    def end(self, status: int) -> None:
        """What the nursery saw (negative: the signal that killed it)."""
        self._status = status
        self._ended.set()

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises `TimeoutExpired`."""
        if not self._ended.wait(timeout) or self._status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return self._status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The test's side. Thread-safe."""

    def __init__(self) -> None:
        self._socket, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inside:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(inside.fileno())],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                pass_fds=[inside.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self._born: dict[int, Forked] = {}
        self._answer: Forked | None = None
        self._answered = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, arguments: tuple[str, ...], *, cwd: Path, stdout: int, stderr: int) -> Forked:
        """Run `strongroom <arguments>` in a folder; the two descriptors may be closed afterwards."""
        request = json.dumps({"arguments": arguments, "cwd": str(cwd)}).encode()
        with self._lock:
            socket.send_fds(self._socket, [request], [stdout, stderr])
            with self._answered:
                while self._answer is None:
                    if not self._answered.wait(60):
                        raise AssertionError("the nursery does not answer")
                forked, self._answer = self._answer, None
        return forked

    def _listen(self) -> None:
        while data := self._socket.recv(_REQUEST_BYTES):
            said: dict[str, int] = json.loads(data)
            if "status" in said:
                self._born.pop(said["pid"]).end(said["status"])
                continue
            with self._answered:
                self._answer = self._born[said["pid"]] = Forked(said["pid"])
                self._answered.notify()


@functools.cache
def nursery() -> Nursery:
    """The one of this test run; it ends with the run."""
    return Nursery()


class _Born(BaseException):
    """Raised in a forked child, to leave the nursery's frames behind."""

    def __init__(self, arguments: list[str]) -> None:
        super().__init__()
        self.arguments = arguments


def _serve(requests: socket.socket) -> None:
    """Fork for each request; tell pids and, later, exit statuses. Ends when the test's side is gone."""
    ended, wake = socket.socketpair()
    ended.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([requests, ended], [], [])
        if ended in ready:
            ended.recv(4096)
            _tell_ended(requests)
        if requests in ready:
            data, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 2)
            if not data:
                return
            request, parent = json.loads(data), os.getpid()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (requests, ended, wake):
                    end.close()
                _settle(parent, request["cwd"], descriptors)
                raise _Born(request["arguments"])
            for descriptor in descriptors:
                os.close(descriptor)
            requests.send(json.dumps({"pid": pid}).encode())


def _settle(parent: int, cwd: str, descriptors: list[int]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    os.chdir(cwd)
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _tell_ended(requests: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        requests.send(json.dumps({"pid": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _load() -> None:
    """Everything that a silo's process loads, down to what torch puts off until the first optimizer."""
    import torch

    import strongroom.cli
    import strongroom.commands.silo
    import strongroom.commands.silo_train
    import strongroom.commands.silo_watch
    import strongroom.task

    strongroom.task.claim_package_names()
    strongroom.silo  # noqa: B018  lazy: this loads it
    torch.set_num_threads(1)
    torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1).zero_grad()
    # Or a child copies all of it page by page, as its collector looks at it once more at the end.
    gc.freeze()


def _main(descriptor: int) -> None:
    # Beside this file lie modules that a silo's process does not see.
    sys.path.pop(0)
    try:
        _load()
        _serve(socket.socket(fileno=descriptor))
    except _Born as born:
        arguments = born.arguments
    else:
        return
    from strongroom.cli import main

    sys.argv = ["strongroom", *arguments]
    _end_with(main)


def _end_with(main: Callable[[], object]) -> NoReturn:
    """Run it and end as Python ends, but for taking every module apart, which would copy the nursery's memory."""
    status: object = None
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
