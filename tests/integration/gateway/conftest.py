"""A real gateway over real sockets, beside the enclave's real service around a core that only takes notes."""

import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import grpc
import pytest
from agreement_examples import good_agreement

from appliance.enclave.outbox import Outbox
from appliance.enclave.service import EnclaveService, open_socket
from appliance.enclave.spool import EnclaveSpool
from appliance.gateway.process import Gateway, Settings
from appliance.gateway.witness_courier import Route
from audit.note import VerifierKey
from audit.witnessing.answer import Answer
from protocol.agreement import Agreement
from protocol.credentials import CertificateAuthority, new_credential_key, pem_of
from protocol.errors import RefusalCode, refuse
from protocol.keys import SigningKey
from protocol.layout import Layout, Role, Tensor
from protocol.sealing import ByteSource
from protocol.sealing.bytes_io import read
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import (
    BULK_MESSAGE_BYTES,
    DOWNLOAD,
    GATEWAY_NAME,
    UPLOAD,
    DownloadRequest,
    upload_metadata,
)

DOMAIN = "simulated.digits"
WITNESS_KEY = VerifierKey.of_cosigner("witness.example/w1", SigningKey(b"w" * 32).public)


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that another thread or process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never came about")
        time.sleep(0.01)


@dataclass(frozen=True)
class NotedDescription:
    boot_id: bytes
    ca_certificate: bytes
    admitted: tuple[str, ...]
    joined: tuple[str, ...]
    agreement: bytes = bytes(32)
    origin: str = "simulated.example/log"
    simulated: bool = True
    phase: str = "idle"
    round: int = 1
    attempt: int = 0
    log_size: int = 2
    waiting_for: tuple[str, ...] = ()


class NotingCore:
    """Answers everything and notes it. `expired`: silos that its table of admissions no longer holds.

    `broken`: it can't say how it is.
    """

    def __init__(self, number: int) -> None:
        self.boot_id = bytes([number]) * 32
        self.ca = CertificateAuthority.create(f"boot {number}", int(time.time()))
        self.notes: list[tuple[str, str, bytes]] = []
        self.witnessed_notes: list[tuple[str, bytes]] = []
        self.expired: set[str] = set()
        self.broken = False
        self.refused_uploads: set[str] = set()
        self.sources: list[ByteSource] = []

    def hello(self, message: bytes) -> bytes:
        return b"welcome, " + message

    def enrol(self, sealed: bytes) -> bytes:
        self.notes.append(("", "enrol", sealed))
        if sealed == b"break":
            raise ZeroDivisionError("with a secret in its text")
        return b"admitted, " + sealed

    def receive(self, silo: str, message: bytes) -> None:
        if silo in self.expired:
            raise refuse(
                RefusalCode.CREDENTIAL_EXPIRED,
                expected="a credential that is still valid",
                found="one that expired 60 s ago",
                remedy="enrol again",
            )
        self.notes.append((silo, "receive", message))

    def left(self, silo: str) -> None:
        self.notes.append((silo, "left", b""))

    def witnessed(self, witness: str, message: bytes) -> None:
        self.witnessed_notes.append((witness, message))

    def witnesses_left(self) -> None:
        """A gateway has come or gone."""

    def complete(self, silo: str, source: ByteSource) -> bytes:
        if silo in self.refused_uploads:
            raise refuse(RefusalCode.UPDATE_NOT_FINITE, expected="finite numbers", found="NaN", remedy="train again")
        self.sources.append(source)
        self.notes.append((silo, "complete", read(source, 0, source.size())))
        return b"accepted"

    def describe(self) -> NotedDescription:
        if self.broken:
            raise ZeroDivisionError("with a secret in its text")
        return NotedDescription(
            boot_id=self.boot_id,
            ca_certificate=self.ca.certificate_der,
            admitted=("silo-0", "silo-1"),
            joined=(),
        )

    def heard(self, silo: str) -> list[str]:
        """What it heard of one silo, in order."""
        return [
            what if not data or what == "complete" else f"{what} {data.decode()}"
            for who, what, data in self.notes
            if who == silo
        ]


@dataclass
class Client:
    """A silo's end of the wire, with nothing of `silo_client` in it."""

    enrolment: str
    federation: str
    credentials: grpc.ChannelCredentials
    options: tuple[tuple[str, object], ...] = (("grpc.ssl_target_name_override", GATEWAY_NAME),)
    channels: list[grpc.Channel] = field(default_factory=list)

    def channel(self, where: str) -> grpc.Channel:
        options = (*self.options, ("grpc.use_local_subchannel_pool", 1))
        self.channels.append(grpc.secure_channel(where, self.credentials, options=options))
        return self.channels[-1]

    def stub(self) -> rpc.FederationStub:
        return rpc.FederationStub(self.channel(self.federation))

    def status(self, upload_id: bytes) -> pb.UploadOffset:
        return self.stub().UploadStatus(pb.UploadId(upload_id=upload_id), timeout=10)

    def upload(self, upload_id: bytes, blob: bytes, *, offset: int = 0, size: int | None = None) -> pb.Reply:
        pieces = (blob[at : at + BULK_MESSAGE_BYTES] for at in range(offset, len(blob), BULK_MESSAGE_BYTES))
        call = self.channel(self.federation).stream_unary(UPLOAD, response_deserializer=pb.Reply.FromString)
        announced = len(blob) if size is None else size
        metadata = upload_metadata(upload_id=upload_id, offset=offset, size=announced)
        return call(pieces, metadata=metadata, timeout=20)

    def download(self, name: str, offset: int = 0) -> bytes:
        call = self.channel(self.federation).unary_stream(DOWNLOAD)
        return b"".join(call(DownloadRequest(name=name, offset=offset).encode(), timeout=20))


class Talk:
    """One open session, driven message by message."""

    def __init__(self, client: Client, patience_seconds: float = 20) -> None:
        self._patience = patience_seconds
        self._said: list[bytes] = []
        self._more = threading.Condition()
        self._over = False
        self._call = client.stub().Session(self._requests())

    def say(self, message: bytes) -> None:
        with self._more:
            self._said.append(message)
            self._more.notify()

    @property
    def is_open(self) -> bool:
        return bool(self._call.is_active())

    def hear(self) -> pb.Reply:
        return next(self._call)

    def rest(self) -> list[pb.Reply]:
        return list(self._call)

    def cut(self) -> None:
        self._call.cancel()

    def finish(self) -> None:
        with self._more:
            self._over = True
            self._more.notify()

    def _requests(self) -> Iterator[pb.Message]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._said or self._over, timeout=self._patience)
                if not self._said:
                    return
                message = self._said.pop(0)
            yield pb.Message(message=message)


class House:
    """Gateway and enclave service in this process, and clients for them."""

    eventually = staticmethod(eventually)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fatal: list[str] = []
        tensor = Tensor(name="w", shape=(300_000,), dtype="float32", role=Role.PARAMETER)
        self.layout = Layout(tensors=(tensor,))
        for name in ("spool", "models"):
            (folder / name).mkdir()
        (folder / "federation.toml").write_text(good_agreement())
        (folder / "layout.json").write_bytes(self.layout.encode())
        self.clients: list[Client] = []
        self._boots = 0
        self.boot()
        self.posted: list[bytes] = []
        self.gateway = self._start_gateway()

    def boot(self) -> None:
        """Start the enclave's service around a new core."""
        self._boots += 1
        self.core, self.outbox = NotingCore(self._boots), Outbox()
        spool = EnclaveSpool(self.folder / "spool", largest=2**22)
        self.enclave = open_socket(
            EnclaveService(self.core, self.outbox, spool, self._die), self.folder / "enclave.sock"
        )

    def stop_enclave(self) -> None:
        self.enclave.stop(grace=None).wait()

    def _die(self, error: BaseException) -> NoReturn:
        self.fatal.append(type(error).__name__)
        raise SystemExit

    def _start_gateway(self) -> Gateway:
        settings = Settings(
            agreement=self.folder / "federation.toml",
            layout=self.folder / "layout.json",
            socket=self.folder / "enclave.sock",
            spool=self.folder / "spool",
            models=self.folder / "models",
            enrolment="127.0.0.1:0",
            federation="127.0.0.1:0",
            witness=[],
        )
        agreement = Agreement.parse(settings.agreement.read_bytes(), "federation.toml")
        # A witness of the name of a silo: a name on the wire is the one or the other.
        route = Route(name="silo-1", key=WITNESS_KEY, post=self._post)
        gateway = Gateway(settings, agreement, self.layout, {"silo-1": route})
        threading.Thread(target=gateway.run, daemon=True).start()
        eventually(lambda: len(gateway.addresses) == 2)
        return gateway

    def _post(self, body: bytes) -> Answer:
        self.posted.append(body)
        return Answer.conflict(7)

    def restart_gateway(self) -> None:
        """Another gateway on the same spool, as after a crash: nothing of the last one's memory is left."""
        self.gateway.stop()
        self.gateway = self._start_gateway()

    def client(
        self, silo: str | None = "silo-0", *, authority: CertificateAuthority | None = None, domain: str = DOMAIN
    ) -> Client:
        """A client with a credential for `silo` (None: without) by the enclave's authority or another."""
        where = self.gateway.addresses
        pinned = ssl.get_server_certificate(split(where["enrolment"])).encode()
        chain, key = None, None
        if silo is not None:
            own, now = new_credential_key(), int(time.time())
            authority = authority or self.core.ca
            issued = authority.issue(own.spki_der, f"spiffe://{domain}/silo/{silo}", now - 60, now + 600)
            chain, key = pem_of(issued), own.private_pem()
        client = Client(
            enrolment=where["enrolment"],
            federation=where["federation"],
            credentials=grpc.ssl_channel_credentials(pinned, key, chain),
        )
        self.clients.append(client)
        return client

    def talk(self, silo: str = "silo-0", *, options: tuple[tuple[str, object], ...] = ()) -> Talk:
        """A session that the enclave knows of; `options`: gRPC's, in place of the plainest."""
        joins = self.core.heard(silo).count("receive join")
        client = self.client(silo)
        client.options = options or client.options
        talk = Talk(client, patience_seconds=20 if not options else 300)
        talk.say(b"join")
        eventually(lambda: self.core.heard(silo).count("receive join") > joins)
        return talk

    def close(self) -> None:
        for client in self.clients:
            for channel in client.channels:
                channel.close()
        self.gateway.stop()
        self.stop_enclave()


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@pytest.fixture
def house() -> Iterator[House]:
    # Not pytest's folder, whose path is too long for a socket's.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    house = House(folder)
    yield house
    house.close()
    shutil.rmtree(folder)
