"""The supervisor: starts enclave and gateway, starts again what died, and ends both. It owns no key, reads no message.

Part of the measured image, because it chooses the enclave's code and arguments. One thread, one loop over the
children's pipes and the signals. Called by `strongroom appliance serve`.

Exit statuses: 0 asked to end (SIGTERM, SIGINT) · 2 configuration, a file, a port or the store is unusable · 3 the
enclave refuses to start (another agreement, a damaged or older store) · 4 a process keeps failing.
"""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import FrameType

from appliance.child import Child, Credentials, Lines
from appliance.config import ApplianceConfig
from appliance.enclave.process import EXIT_REFUSED
from appliance.places import Places
from appliance.privileges import Needs, separate, unlimit_locked_memory
from protocol import canonical
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from protocol.fields import Fields

_ENCLAVE, _GATEWAY = "appliance.enclave.process", "appliance.gateway.process"
# appliance.gateway.process.EXIT_UNUSABLE, whose module would load gRPC here.
_GATEWAY_UNUSABLE = 2
_GIVE_UP_AFTER = 6
_GRACE_SECONDS = 5.0
_TICK_SECONDS = 1.0
_REPORT_LIMIT_BYTES = 8192


class Exit(IntEnum):
    """How `Supervisor.run` ended."""

    ASKED = 0
    UNUSABLE = 2
    REFUSED = 3
    FAILING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The appliance serves. Said again, with other values, each time that one of the processes was replaced."""

    enrolment: str
    federation: str
    boot_id: str
    supervisor_pid: int
    enclave_pid: int
    gateway_pid: int
    enclave_restarts: int
    gateway_restarts: int
    one_user_because: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the supervisor tells: that the appliance is ready, and lines for the operator's log."""

    ready: Callable[[Ready], None]
    line: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Files that end a federation for the next: the successor's agreement, and a folder of approvals."""

    successor: Path
    approvals: Path


class Supervisor:
    """One appliance; `run` is its life. With a `handover` its enclave ends the log at its start."""

    def __init__(
        self,
        config: ApplianceConfig,
        output: Output,
        handover: Handover | None = None,
        *,
        rotate_log_key: bool = False,
        recover: bool = False,
    ) -> None:
        """`rotate_log_key`, `recover`: of the enclave's first boot; those after it go on under the key that it made."""
        self._config = config
        self._handover = handover
        self._at_first = ["--rotate-log-key"] * rotate_log_key + ["--recover"] * recover
        self._output = output
        self._places = Places.of(config.store)
        self._addresses = {"enrolment": config.enrolment, "federation": config.federation}
        self._one_user_because: str | None = None
        self._boot_id = ""
        self._serves = ""
        self._exit: Exit | None = None
        self._selector = selectors.DefaultSelector()

    def run(self) -> Exit:
        """Serve until asked to end or unable to go on. Main thread only. Raises `StoreUnusableError` at the start."""
        lock = self._places.lock()
        try:
            self._enclave, self._gateway = self._make_children()
            with _Signals(self._selector, self._on_signal):
                self._loop()
            return Exit.ASKED if self._exit is None else self._exit
        finally:
            os.close(lock)

    def _loop(self) -> None:
        try:
            while self._exit is None:
                for child in (self._enclave, self._gateway):
                    if child.process is None and time.monotonic() >= child.start_at:
                        self._start(child)
                self._wait()
                for child in (self._enclave, self._gateway):
                    status = child.ended()
                    if status is not None:
                        self._on_end(child, status)
        finally:
            for child in (self._gateway, self._enclave):
                child.end(_GRACE_SECONDS)
            self._drain()

    # Children

    def _make_children(self) -> tuple[Child, Child]:
        files = (self._config.agreement, self._config.layout)
        handover = () if self._handover is None else (self._handover.successor, self._handover.approvals)
        optional = (self._config.endorsements, self._config.predecessor, *handover)
        places, users = self._places, self._config.users
        enclave = Needs(
            packages=("appliance", "torch", "grpc", "cryptography"),
            readable=(*files, *(path for path in optional if path is not None)),
            writable=(),
        )
        gateway = Needs(packages=("appliance", "grpc", "cryptography"), readable=files, writable=())
        # First without the store: to hand that over and back again costs a walk through all of it.
        why_not = separate(users, enclave, gateway)
        if why_not is None:
            places.prepare(users, separate=True)
            why_not = separate(
                users,
                Needs(
                    packages=(),
                    readable=(places.spool,),
                    writable=(places.store, places.models, places.runtime),
                ),
                Needs(packages=(), readable=(places.models,), writable=(places.spool,)),
            )
        self._one_user_because = why_not
        if why_not is not None:
            places.prepare(users, separate=False)
            self._output.line(f"supervisor | one user for both processes: {why_not}")
            return Child("enclave", "appliance.enclave.process", None), Child(
                "gateway", "appliance.gateway.process", None
            )
        unlimit_locked_memory()
        return (
            Child("enclave", "appliance.enclave.process", Credentials(user=users.enclave, group=users.group)),
            Child("gateway", "appliance.gateway.process", Credentials(user=users.gateway, group=users.group)),
        )

    def _start(self, child: Child) -> None:
        config, places = self._config, self._places
        arguments = [f"--agreement={config.agreement}", f"--layout={config.layout}", f"--socket={places.socket}"]
        if child is self._enclave:
            arguments += [f"--store={places.store}", f"--threads={config.threads}"]
            arguments += [
                f"--{name}={path}"
                for name, path in (
                    ("endorsements", config.endorsements),
                    ("predecessor", config.predecessor),
                    ("successor", self._handover.successor if self._handover else None),
                    ("approvals", self._handover.approvals if self._handover else None),
                )
                if path is not None
            ]
            arguments += self._at_first
        else:
            arguments += [f"--spool={places.spool}", f"--models={places.models}"]
            arguments += [f"--{port}={address}" for port, address in self._addresses.items()]
            arguments += [f"--witness={witness.name}={witness.url}" for witness in config.witnesses]
        out, err = child.start(arguments)
        for lines, report in ((out, self._on_report), (err, self._on_line)):
            self._selector.register(lines.pipe, selectors.EVENT_READ, (lines, child, report))

    def _on_end(self, child: Child, status: int) -> None:
        self._hear()
        self._output.line(f"supervisor | event=ended child={child.name} status={status}")
        if child is self._enclave:
            self._boot_id = ""
        else:
            self._serves = ""
        if child is self._enclave and status == EXIT_REFUSED:
            self._exit = Exit.REFUSED
        elif child is self._gateway and status == _GATEWAY_UNUSABLE:
            self._exit = Exit.UNUSABLE
        else:
            pause = child.schedule_restart()
            if child.failures >= _GIVE_UP_AFTER:
                self._exit = Exit.FAILING
                self._output.line(f"supervisor | event=given-up child={child.name} failures={child.failures}")
            else:
                restart = f"event=restart child={child.name} count={child.restarts} pause-seconds={pause:.1f}"
                self._output.line(f"supervisor | {restart}")

    # What they say

    def _wait(self) -> None:
        due = [child.start_at - time.monotonic() for child in (self._enclave, self._gateway) if child.process is None]
        for key, _ in self._selector.select(max(0.0, min([*due, _TICK_SECONDS]))):
            self._take(key)

    def _take(self, key: selectors.SelectorKey) -> None:
        if callable(key.data):
            key.data()
            return
        lines, child, report = key.data
        for line in lines.read():
            report(child, line)
        if lines.ended:
            self._forget(lines)

    def _hear(self) -> None:
        """What the children have said by now."""
        for key in list(self._selector.get_map().values()):
            if not callable(key.data):
                self._take(key)

    def _forget(self, lines: Lines) -> None:
        self._selector.unregister(lines.pipe)
        lines.pipe.close()

    def _drain(self) -> None:
        """The children's last words."""
        self._hear()
        for key in list(self._selector.get_map().values()):
            if not callable(key.data):
                self._forget(key.data[0])

    def _on_line(self, child: Child, line: str) -> None:
        self._output.line(f"{child.name} | {printable(line)}")

    def _on_report(self, child: Child, line: str) -> None:
        try:
            self._read_report(child, line)
        except MalformedError:
            self._on_line(child, line)

    def _read_report(self, child: Child, line: str) -> None:
        """Take a report: of the enclave's boot or progress, or of the gateway's addresses and what it serves."""
        report = Fields(canonical.decode(line.encode(), limit_bytes=_REPORT_LIMIT_BYTES), "report")
        boot_id = report.hexadecimal("boot_id", size=32).hex()
        if child is self._enclave:
            event = report.choice("event", ("started", "published"))
            report.close()
            if event == "published":
                # Both had a part in it: whoever kills them now and then must not have them given up.
                self._enclave.prove()
                self._gateway.prove()
                return
            self._boot_id = boot_id
            self._at_first = []
        else:
            report.literal("event", "serving")
            addresses = {port: report.text(port) for port in self._addresses}
            report.close()
            # Port 0 was a free port: after a restart silos must find the gateway where it was.
            self._addresses, self._serves = addresses, boot_id
        if self._boot_id and self._boot_id == self._serves:
            self._say_ready()

    def _say_ready(self) -> None:
        if self._enclave.pid is None or self._gateway.pid is None:
            return
        self._output.ready(
            Ready(
                **self._addresses,
                boot_id=self._boot_id,
                supervisor_pid=os.getpid(),
                enclave_pid=self._enclave.pid,
                gateway_pid=self._gateway.pid,
                enclave_restarts=self._enclave.restarts,
                gateway_restarts=self._gateway.restarts,
                one_user_because=self._one_user_because,
            )
        )

    def _on_signal(self) -> None:
        self._exit = Exit.ASKED


class _Signals:
    """SIGTERM and SIGINT end the loop, SIGCHLD wakes it; all through one socket that the selector watches."""

    def __init__(self, selector: selectors.BaseSelector, ended: Callable[[], None]) -> None:
        self._selector = selector
        self._ended = ended
        self._inside, self._outside = socket.socketpair()
        self._former: dict[int, signal.Handlers | int | Callable[[int, FrameType | None], object] | None] = {}

    def __enter__(self) -> None:
        for end in (self._inside, self._outside):
            end.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            self._former[number] = signal.signal(number, lambda *_: None)
        self._former_wakeup = signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._inside, selectors.EVENT_READ, self._read)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._former_wakeup)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._selector.unregister(self._inside)
        self._inside.close()
        self._outside.close()

    def _read(self) -> None:
        if any(number in (signal.SIGTERM, signal.SIGINT) for number in self._inside.recv(4096)):
            self._ended()
