"""The operator as the adversary: he runs the real enclave's process himself, and is its gateway, with changes of his.

His gateway is made of the real one's classes, in the test's process; a `Cheat` says where he departs from honesty.
Silos reach it by a `Line` each, which he can lead to another gateway, so that each may see another enclave. He owns the
disk: `copied` is his way to an older store, or to two of one.
"""

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from process_federation import PATIENCE_SECONDS, Ports, ProcessFederation, stopped, wait_until
from switched_line import Line

from appliance.child import isolated_interpreter
from appliance.gateway.bodies import Bodies
from appliance.gateway.enrolment_port import EnrolmentPort
from appliance.gateway.federation_port import FederationPort
from appliance.gateway.link import EnclaveLink, Listener
from appliance.gateway.servers import Certificate, FederationServer, open_enrolment
from appliance.gateway.spool import Spool
from protocol.credentials import new_credential_key
from protocol.layout import Layout
from protocol.sealing.geometry import WRAP_BYTES, size_of
from protocol.sealing.header import HEADER_LIMIT_BYTES
from protocol.session import Announcement, parse_to_silo
from protocol.wire import strongroom_pb2 as pb
from protocol.wire.methods import BULK_MESSAGE_BYTES

_HOST = "127.0.0.1"
_LOCAL = f"{_HOST}:0"


class Enclave:
    """The real enclave's process on a store, started as the supervisor does it: no environment, isolated, in `/`."""

    def __init__(self, made: ProcessFederation, store: Path, *, beside: bool = False) -> None:
        """`beside`: another one runs on this store already, and keeps its gateway."""
        self.store = store
        self.socket = made.folder / f"{store.name}{'-beside' if beside else ''}.sock"
        self.models, self.spool = store / "models", store / "spool"
        for folder in (store, self.models, self.spool):
            folder.mkdir(exist_ok=True)
        self._log = made.folder / f"{store.name}-{time.monotonic_ns()}.log"
        files = made.folder / "appliance"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(*isolated_interpreter(), "-m", "appliance.enclave.process"),
                    *(f"--agreement={files / 'federation.toml'}", f"--layout={files / 'layout.json'}"),
                    *(f"--store={store}", f"--socket={self.socket}", "--threads=1"),
                ],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def lines(self) -> list[str]:
        """What it has told its operator so far."""
        return self._log.read_text("utf-8", "replace").splitlines()

    @property
    def last_line(self) -> str:
        """The last of it."""
        return self.lines[-1]

    def started(self) -> "Enclave":
        """Wait until it serves."""
        wait_until(self._has_started, f"the enclave on {self.store.name} to start: {self.lines}")
        return self

    def _has_started(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the enclave on {self.store.name} ended: {self.lines}")
        return any(line.startswith("event=started ") for line in self.lines)

    def exit_code(self) -> int:
        """Wait for its end."""
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> None:
        """As the supervisor does; nothing happens where it has ended."""
        self.process.send_signal(signal.SIGTERM)
        self.exit_code()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def copied(self, name: str) -> Path:
        """A copy of its store as it is at this moment, beside it."""
        with stopped(self.process.pid) if self.process.poll() is None else nullcontext():
            return copied(self.store, name)


def copied(store: Path, name: str) -> Path:
    """A copy of a store that nobody writes to, beside it."""
    return Path(shutil.copytree(store, store.with_name(name), ignore=shutil.ignore_patterns("*.sock"), symlinks=True))


@dataclass
class Cheat:
    """What the operator does with what passes through his hands; unless told, what an honest one does."""

    to_silo: Callable[[str, bytes], Iterable[bytes]] = lambda silo, message: [message]
    """The messages that a silo gets in the place of one of the enclave's."""
    from_silo: Callable[[str, bytes], Iterable[bytes]] = lambda silo, message: [message]
    """The messages that the enclave gets in the place of one of a silo's."""
    body: Callable[[str, str], bytes | None] = lambda silo, name: None
    """Other bytes for a download."""
    uploaded: Callable[[str, Path], None] = lambda silo, blob: None
    """Called when an upload lies complete in the spool, before the enclave hears of it."""
    answer: Callable[[str, pb.Reply], pb.Reply] = lambda silo, reply: reply
    """Another answer to an upload than the enclave's."""
    turned_away: Callable[[str], pb.Refusal | None] = lambda silo: None
    """A refusal of the operator's own, in the place of the enclave's answer to whatever a silo says."""


class Gateway:
    """The operator's gateway to the enclave on one store: the real one's classes, and `cheat`."""

    def __init__(self, made: ProcessFederation, enclave: Enclave) -> None:
        self.cheat = Cheat()
        self.sent: list[tuple[str, bytes]] = []
        """All that the enclave had for silos, in order."""
        self.answered: list[tuple[str, pb.Reply]] = []
        """The enclave's answers to uploads, in order."""
        self.gone: list[str] = []
        """Whose sessions have ended, each time."""
        layout = Layout.parse((made.folder / "layout.json").read_bytes())
        certificate = Certificate.create(new_credential_key(), int(time.time()))
        link = _Link(self, enclave)
        self._link = link
        self._spool = Spool(
            enclave.spool,
            smallest=size_of(1, WRAP_BYTES, layout.update_chunks),
            largest=size_of(HEADER_LIMIT_BYTES, WRAP_BYTES, layout.chunks),
        )
        self._port = FederationPort(
            link=link, spool=self._spool, bodies=_Bodies(self, enclave.models), domain=made.agreement.spiffe_domain
        )
        self._federation = FederationServer(_LOCAL, self._port, certificate, len(made.names))
        self._enrolment, self._enrolment_address = open_enrolment(_LOCAL, EnrolmentPort(link), certificate)
        self._up = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        if not self._up.wait(PATIENCE_SECONDS):
            raise AssertionError("the gateway does not reach its enclave")

    @property
    def ports(self) -> Ports:
        """Where silos find it; the same for every boot of the enclave."""
        return Ports(
            *(int(address.rpartition(":")[2]) for address in (self._enrolment_address, self._federation.address))
        )

    def announcements(self, silo: str) -> list[Announcement]:
        """What the enclave has announced to a silo, in order."""
        parsed = [parse_to_silo(message) for name, message in list(self.sent) if name == silo]
        return [message for message in parsed if isinstance(message, Announcement)]

    def inject(self, silo: str, message: bytes) -> None:
        """Send a silo a message of the operator's own."""
        self._port.sessions.deliver(silo, message)

    def wait_gone(self, silo: str, times: int) -> None:
        """Wait until a silo's sessions have ended so many times."""
        wait_until(lambda: self.gone.count(silo) >= times, f"{silo} to leave")

    def close(self) -> None:
        """End all streams."""
        self._link.close()
        self._federation.stop(0)
        self._enrolment.stop(0).wait(PATIENCE_SECONDS)

    def _run(self) -> None:
        self._link.run(
            Listener(
                prepare=lambda description: self._spool.serve_boot(description.boot_id),
                serve=self._serve,
                message=self._deliver,
                ask=lambda witness, message: None,
                down=self._port.enclave_lost,
            )
        )

    def _serve(self, description: pb.Description) -> None:
        self._federation.serve(description.ca_certificate)
        self._up.set()

    def _deliver(self, silo: str, message: bytes) -> None:
        self.sent.append((silo, message))
        for each in self.cheat.to_silo(silo, message):
            self._port.sessions.deliver(silo, each)


class _Link(EnclaveLink):
    """The way to the enclave, with the operator's hands on it."""

    def __init__(self, gateway: Gateway, enclave: Enclave) -> None:
        super().__init__(enclave.socket)
        self._gateway = gateway
        self._spool = enclave.spool

    def receive(self, silo: str, message: bytes) -> pb.Reply:
        if (refusal := self._gateway.cheat.turned_away(silo)) is not None:
            return pb.Reply(refusal=refusal)
        reply = pb.Reply(message=b"")
        for each in self._gateway.cheat.from_silo(silo, message):
            reply = super().receive(silo, each)
        return reply

    def left(self, silo: str) -> None:
        super().left(silo)
        self._gateway.gone.append(silo)

    def complete(self, silo: str, name: str) -> pb.Reply:
        self._gateway.cheat.uploaded(silo, self._spool / silo / name)
        reply = super().complete(silo, name)
        self._gateway.answered.append((silo, reply))
        return self._gateway.cheat.answer(silo, reply)


class _Bodies(Bodies):
    """What is downloaded, unless the operator has something else."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        super().__init__(folder)
        self._gateway = gateway

    @contextmanager
    def open(self, silo: str, name: str, offset: int) -> Iterator[Iterator[bytes]]:
        other = self._gateway.cheat.body(silo, name)
        if other is not None:
            yield (other[at : at + BULK_MESSAGE_BYTES] for at in range(offset, len(other), BULK_MESSAGE_BYTES))
            return
        with super().open(silo, name, offset) as pieces:
            yield pieces


class Operator:
    """Everything that he runs for one federation."""

    def __init__(self, made: ProcessFederation) -> None:
        self.federation = made
        self._enclaves: list[Enclave] = []
        self._gateways: list[Gateway] = []
        self._lines: list[Line] = []

    def line(self) -> Line:
        """A silo's way to the appliance; it leads nowhere yet."""
        self._lines.append(Line())
        return self._lines[-1]

    def boot(self, store: Path, *, beside: bool = False) -> Enclave:
        """Start the enclave's process on a store."""
        self._enclaves.append(Enclave(self.federation, store, beside=beside))
        return self._enclaves[-1]

    def gateway(self, enclave: Enclave) -> Gateway:
        """A gateway to whatever enclave serves where this one does."""
        self._gateways.append(Gateway(self.federation, enclave))
        return self._gateways[-1]

    def end(self) -> None:
        """End all of it; he may begin anew."""
        for line in self._lines:
            line.close()
        for gateway in self._gateways:
            gateway.close()
        for enclave in self._enclaves:
            enclave.kill()
        self._lines, self._gateways, self._enclaves = [], [], []


@contextmanager
def hostile_operator(made: ProcessFederation) -> Iterator[Operator]:
    """An operator whose processes are gone afterwards."""
    operator = Operator(made)
    try:
        yield operator
    finally:
        operator.end()
