"""The gateway's one connection to the enclave: gRPC over a unix socket, opened again whenever the enclave restarts.

Called by the gateway's handlers from many threads. The gateway believes the enclave about which sessions to end and
which authority signs credentials; the enclave believes the gateway nothing.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
from google.protobuf.message import Message

from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import MESSAGE_LIMIT_BYTES

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
_CALL_SECONDS = 60.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # Or the next channel would wait out the pause that the last one's failures earned.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class EnclaveAwayError(Exception):
    """The enclave is not there (yet, or no longer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What the gateway does when the link comes, speaks and goes; called from the link's thread.

    `prepare` before any call to the enclave is let through, `serve` once calls are. `message` (silo, message) and `ask`
    (further witness, message) take what the enclave sends.
    """

    prepare: Callable[[pb.Description], None]
    serve: Callable[[pb.Description], None]
    message: Callable[[str, bytes], None]
    ask: Callable[[str, bytes], None]
    down: Callable[[], None]


class EnclaveLink:
    """The connection; `run` keeps it, in a thread of its own, until `close`."""

    def __init__(self, socket: Path) -> None:
        self._target = f"unix:{socket}"
        self._stub: rpc.EnclaveStub | None = None
        self._channel: grpc.Channel | None = None
        self._closing = threading.Event()

    def run(self, listener: Listener) -> None:
        """Connect, pass on what the enclave sends, and connect again."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            with grpc.insecure_channel(self._target, options=_OPTIONS) as channel:
                self._channel = channel
                if self._serve(channel, listener):
                    pause = _FIRST_PAUSE_SECONDS
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _serve(self, channel: grpc.Channel, listener: Listener) -> bool:
        """One connection's life; False if it never came about."""
        stub = rpc.EnclaveStub(channel)  # type: ignore[no-untyped-call]
        try:
            stream = stub.Messages(pb.Empty())
            # The enclave answers with its headers once this gateway is the one that it talks to.
            stream.initial_metadata()
            description = stub.Describe(pb.Empty(), timeout=_CALL_SECONDS)
        except grpc.RpcError:
            return False
        listener.prepare(description)
        self._stub = stub
        try:
            listener.serve(description)
            for message in _until_broken(stream):
                addressed = listener.ask if message.WhichOneof("to") == "witness" else listener.message
                addressed(message.witness or message.silo, message.message)
        finally:
            self._stub = None
            listener.down()
        return True

    @property
    def connected(self) -> bool:
        """Whether calls have a chance now."""
        return self._stub is not None

    def close(self) -> None:
        """Stop `run`."""
        self._closing.set()
        if self._channel is not None:
            self._channel.close()

    def hello(self, message: bytes) -> pb.Reply:
        """Pass on a `Hello`. This and the calls below raise `EnclaveAwayError`."""
        return self._call("Hello", pb.Message(message=message), _CALL_SECONDS)

    def enrol(self, message: bytes) -> pb.Reply:
        """Pass on an enrolment request."""
        return self._call("Enrol", pb.Message(message=message), _CALL_SECONDS)

    def receive(self, silo: str, message: bytes) -> pb.Reply:
        """Pass on a session's message."""
        return self._call("Receive", pb.FromSilo(silo=silo, message=message), _CALL_SECONDS)

    def left(self, silo: str) -> None:
        """Say that a silo's session is over; without an enclave nobody needs to know."""
        with suppress(EnclaveAwayError):
            self._call("Left", pb.Silo(silo=silo), _CALL_SECONDS)

    def witnessed(self, witness: str, message: bytes) -> pb.Reply:
        """Pass on what a further witness answered."""
        return self._call("Witnessed", pb.FromWitness(witness=witness, message=message), _CALL_SECONDS)

    def complete(self, silo: str, name: str) -> pb.Reply:
        """Have an upload judged; takes as long as the enclave needs to open it."""
        return self._call("Complete", pb.CompleteUpload(silo=silo, name=name), None)

    def _call(self, method: str, request: Message, timeout_seconds: float | None) -> pb.Reply:
        stub = self._stub
        if stub is None:
            raise EnclaveAwayError
        try:
            return cast(pb.Reply, getattr(stub, method)(request, timeout=timeout_seconds))
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed in between.
            raise EnclaveAwayError from error


def _until_broken(stream: Iterator[pb.Outgoing]) -> Iterator[pb.Outgoing]:
    try:
        yield from stream
    except grpc.RpcError:
        return
