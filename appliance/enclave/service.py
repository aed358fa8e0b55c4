"""The enclave's only door: gRPC on a unix socket, to the gateway. Everything that comes through it is untrusted.

Takes any object with the core's interface (`Core`); `process.py` gives it the real one. A refusal is an answer.
Anything that the core raises beside that leaves its state in doubt, so that the process ends and starts again from what
is durable: `fatal` must not return. Nothing of an exception but its kind is ever written down, and none of the core's
leaves a handler: gRPC would tell its words to the other end.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

import grpc

from appliance.enclave.outbox import Outbox
from appliance.enclave.spool import EnclaveSpool
from protocol.errors import MalformedError, Refusal, RefusalCode, RefusedError, SignatureError, refuse
from protocol.sealing import ByteSource
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import MESSAGE_LIMIT_BYTES, refusal_to_wire

_THREADS = 32


class CoreDescription(Protocol):
    """What `describe` returns: read-only attributes, as in the proto's `Description`."""

    @property
    def agreement(self) -> bytes: ...
    @property
    def origin(self) -> str: ...
    @property
    def boot_id(self) -> bytes: ...
    @property
    def ca_certificate(self) -> bytes: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def phase(self) -> str: ...
    @property
    def round(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def log_size(self) -> int: ...
    @property
    def admitted(self) -> tuple[str, ...]: ...
    @property
    def joined(self) -> tuple[str, ...]: ...
    @property
    def waiting_for(self) -> tuple[str, ...]: ...


class Core(Protocol):
    """The enclave's core, as the gateway may use it. Thread-safe; refusals are `RefusedError`."""

    def hello(self, message: bytes, /) -> bytes: ...
    def enrol(self, sealed: bytes, /) -> bytes: ...
    def receive(self, silo: str, message: bytes, /) -> None: ...
    def left(self, silo: str, /) -> None: ...
    def witnessed(self, witness: str, message: bytes, /) -> None: ...
    def witnesses_left(self) -> None: ...
    def complete(self, silo: str, source: ByteSource, /) -> bytes: ...
    def describe(self) -> CoreDescription: ...


class EnclaveService(rpc.EnclaveServicer):
    """The handlers. `fatal` takes what the core raised and ends the process."""

    def __init__(
        self, core: Core, outbox: Outbox, spool: EnclaveSpool, fatal: Callable[[BaseException], NoReturn]
    ) -> None:
        self._core = core
        self._outbox = outbox
        self._spool = spool
        self._fatal = fatal

    def Describe(self, request: pb.Empty, context: grpc.ServicerContext) -> pb.Description:  # noqa: N802
        """Where the federation stands."""
        try:
            found = self._core.describe()
            return pb.Description(
                agreement=found.agreement,
                origin=found.origin,
                boot_id=found.boot_id,
                ca_certificate=found.ca_certificate,
                simulated=found.simulated,
                phase=found.phase,
                round=found.round,
                attempt=found.attempt,
                log_size=found.log_size,
                admitted=found.admitted,
                joined=found.joined,
                waiting_for=found.waiting_for,
            )
        except Exception as error:
            self._fatal(error)

    def Hello(self, request: pb.Message, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802
        """Anybody's first message: it changes nothing in the core, so that nothing about it is worth a restart."""
        try:
            return pb.Reply(message=self._core.hello(request.message))
        except RefusedError as error:
            return _refused(error.refusal)
        except Exception as error:
            return _refused(_malformed(type(error).__name__))

    def Enrol(self, request: pb.Message, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802
        """A silo's enrolment request."""
        return self._answer(lambda: self._core.enrol(request.message))

    def Receive(self, request: pb.FromSilo, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802
        """A session's message; the answer is empty, or a refusal."""

        def receive() -> bytes:
            self._core.receive(request.silo, request.message)
            return b""

        return self._answer(receive)

    def Left(self, request: pb.Silo, context: grpc.ServicerContext) -> pb.Empty:  # noqa: N802
        """A silo's session is over."""
        self._left(lambda: [request.silo])
        return pb.Empty()

    def Witnessed(self, request: pb.FromWitness, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802
        """What a further witness answered; the answer is empty, or a refusal."""

        def witnessed() -> bytes:
            self._core.witnessed(request.witness, request.message)
            return b""

        return self._answer(witnessed)

    def Complete(self, request: pb.CompleteUpload, context: grpc.ServicerContext) -> pb.Reply:  # noqa: N802
        """A complete upload in the spool."""
        return self._answer(lambda: self._core.complete(request.silo, self._spooled(request)))

    def _spooled(self, request: pb.CompleteUpload) -> ByteSource:
        try:
            return self._spool.open(request.silo, request.name)
        except MalformedError as error:
            # The spool's doing, as where bytes have changed in it: the silo sends them again.
            raise refuse(
                RefusalCode.UPDATE_SIGNATURE,
                expected="the upload in the spool, as the silo sent it",
                found=str(error),
                remedy="send the stored bytes again; the appliance's operator should look at its spool",
            ) from error

    def Messages(self, request: pb.Empty, context: grpc.ServicerContext) -> Iterator[pb.Outgoing]:  # noqa: N802
        """What the enclave sends, to the gateway that asked last. As gateways come and go, every silo has left."""
        generation = self._outbox.attach()
        try:
            self._everybody_left()
            if not context.add_callback(partial(self._stop_sending, generation)):
                return
            context.send_initial_metadata(())
            for outgoing in self._outbox.messages(generation):
                yield pb.Outgoing(silo=outgoing.silo, witness=outgoing.witness, message=outgoing.message)
        finally:
            if self._outbox.detach(generation):
                self._everybody_left()

    def _stop_sending(self, generation: int) -> None:
        self._outbox.detach(generation)

    def _everybody_left(self) -> None:
        self._left(lambda: self._core.describe().admitted)
        try:
            self._core.witnesses_left()
        except Exception as error:
            self._fatal(error)

    def _left(self, silos: Callable[[], Iterable[str]]) -> None:
        try:
            for silo in silos():
                self._core.left(silo)
        except Exception as error:
            self._fatal(error)

    def _answer(self, call: Callable[[], bytes]) -> pb.Reply:
        try:
            return pb.Reply(message=call())
        except RefusedError as error:
            return _refused(error.refusal)
        except (MalformedError, SignatureError) as error:
            return _refused(_malformed(str(error)))
        except Exception as error:
            self._fatal(error)


def open_socket(service: EnclaveService, socket: Path) -> grpc.Server:
    """Serve on a unix socket that this process's user and group may connect to; raises `RuntimeError` if it can't."""
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        options=[
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        ],
    )
    rpc.add_EnclaveServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"unix:{socket}")
    socket.chmod(0o660)
    server.start()
    return server


def _refused(refusal: Refusal) -> pb.Reply:
    return pb.Reply(refusal=refusal_to_wire(refusal))


def _malformed(found: str) -> Refusal:
    return Refusal(
        code=RefusalCode.MALFORMED,
        expected="a message of this protocol's version",
        found=found,
        remedy="update the silo's software",
    )
