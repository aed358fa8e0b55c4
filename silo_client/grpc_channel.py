"""The channel over gRPC and TLS 1.3. It carries no trust (DESIGN §6): the server's certificate is whatever answers at
the address, pinned for the connection alone, and the credential only gets the silo past the gateway.

Sessions push: nothing is polled. Bulk bytes go as raw messages of 1 MiB, resumable at any byte. A call that fails for
any reason of the network is a `ChannelLostError`; what the appliance refuses is a `RefusedError`, in its own words.
Made by the composition root (`strongroom.silo`); the courier decides when to try again.
"""

import os
import queue
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

# Before gRPC is loaded: its own lines about connections that come and go are not for whoever trains.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from audit.store import StoreError, StoreSource
from audit.stored_files import reported_as
from protocol.credentials import pem_of
from protocol.errors import MalformedError, ProtocolError
from protocol.sealing import ByteSource
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import (
    BULK_MESSAGE_BYTES,
    DOWNLOAD,
    GATEWAY_NAME,
    MESSAGE_LIMIT_BYTES,
    UPLOAD,
    DownloadRequest,
    message_of,
    refusal_from_metadata,
    refusal_from_wire,
    upload_metadata,
)
from silo_client.channel import ChannelLostError, Credential
from silo_client.config import Address

_CONNECT_SECONDS: Final = 10.0
_ENROLMENT_SECONDS: Final = 60.0
_STATUS_SECONDS: Final = 90.0
_BULK_SECONDS: Final = 120.0
_SLOWEST_BYTES_A_SECOND: Final = 2**17
_DOWNLOAD_ATTEMPTS: Final = 3
# What another attempt can't change: the two ends don't speak the same protocol.
_FATAL: Final = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


class GrpcChannel:
    """`Channel` to one appliance. `scratch`: a folder for downloads in progress."""

    def __init__(self, *, enrolment: Address, federation: Address, scratch: Path) -> None:
        self._enrolment = enrolment
        self._federation = federation
        self._scratch = scratch
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._session: _Session | None = None

    def hello(self, message: bytes) -> bytes:
        """`Hello` → `Welcome`."""
        with self._enrolment_channel() as channel:
            stub = rpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]
            return self._unary(stub.Hello, message)

    def enrol(self, message: bytes) -> bytes:
        """`Enrol` → `Admitted`."""
        with self._enrolment_channel() as channel:
            stub = rpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]
            return self._unary(stub.Enrol, message)

    def connect(self, credential: Credential) -> None:
        """Open a session with this credential; one that is open ends."""
        identity = grpc.ssl_channel_credentials(
            root_certificates=_certificate_at(self._federation),
            private_key=credential.key.private_pem(),
            certificate_chain=pem_of(credential.certificate),
        )
        channel = grpc.secure_channel(str(self._federation), identity, options=_OPTIONS)
        session = _Session(channel, str(self._federation))
        with self._lock:
            former, self._channel, self._session = self._channel, channel, session
        if former is not None:
            former.close()

    def send(self, message: bytes) -> None:
        """One message of this silo."""
        self._open_session().send(message)

    def receive(self, timeout_seconds: float | None) -> bytes | None:
        """The next message of the enclave; None after the timeout."""
        return self._open_session().receive(timeout_seconds)

    def download(self, name: str, *, limit_bytes: int) -> ByteSource:
        """A sealed body into a file without a name, which is gone when nobody reads it any more."""
        with reported_as(f"{self._scratch.name}/{name}"):
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            stream = tempfile.TemporaryFile(dir=self._scratch, buffering=0)  # noqa: SIM115  FileBytes closes it
        size = 0
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            try:
                for piece in self._pieces_of(name, size, limit_bytes):
                    size += len(piece)
                    if size > limit_bytes:
                        raise MalformedError(
                            f"body {name}: expected at most {limit_bytes} bytes, as the layout has it, found more; "
                            "nothing of it was kept: the appliance hands out something else"
                        )
                    with reported_as(f"{self._scratch.name}/{name}"):
                        _write_all(stream.fileno(), piece)
            except ChannelLostError:
                if attempt == _DOWNLOAD_ATTEMPTS:
                    raise
            else:
                break
        return FileBytes(stream.fileno(), size, keep=stream)

    def upload(self, upload_id: bytes, blob: StoreSource) -> bytes:
        """Go on with an upload where it stopped; returns the enclave's answer, and closes `blob` in any case."""
        with closing(blob):
            return self._upload(upload_id, blob)

    def _upload(self, upload_id: bytes, blob: StoreSource) -> bytes:
        channel = self._open_channel()
        stub = rpc.FederationStub(channel)  # type: ignore[no-untyped-call]
        size = blob.size()
        failures: list[StoreError] = []
        try:
            status: pb.UploadOffset = stub.UploadStatus(pb.UploadId(upload_id=upload_id), timeout=_STATUS_SECONDS)
            if status.HasField("refusal"):
                raise refusal_from_wire(status.refusal)
            if status.offset > size:
                raise MalformedError(f"upload: expected an offset of at most {size}, found {status.offset}")
            call: grpc.StreamUnaryMultiCallable[bytes, pb.Reply] = channel.stream_unary(
                UPLOAD, response_deserializer=pb.Reply.FromString
            )
            reply = call(
                _pieces(blob, status.offset, size, failures),
                metadata=upload_metadata(upload_id=upload_id, offset=status.offset, size=size),
                timeout=_BULK_SECONDS + size / _SLOWEST_BYTES_A_SECOND,
            )
            return message_of(reply)
        except (grpc.RpcError, ValueError) as error:
            # gRPC makes a lost connection of whatever goes wrong in our own file.
            for failure in failures:
                raise failure from error
            raise _lost(str(self._federation), error) from error

    def close(self) -> None:
        """End the session; `connect` may open another."""
        with self._lock:
            channel, self._channel, self._session = self._channel, None, None
        if channel is not None:
            channel.close()

    def _enrolment_channel(self) -> grpc.Channel:
        anonymous = grpc.ssl_channel_credentials(root_certificates=_certificate_at(self._enrolment))
        return grpc.secure_channel(str(self._enrolment), anonymous, options=_OPTIONS)

    def _unary(self, method: "grpc.UnaryUnaryMultiCallable[pb.Message, pb.Reply]", message: bytes) -> bytes:
        try:
            return message_of(method(pb.Message(message=message), timeout=_ENROLMENT_SECONDS))
        except grpc.RpcError as error:
            raise _lost(str(self._enrolment), error) from error

    def _open_channel(self) -> grpc.Channel:
        with self._lock:
            if self._channel is None:
                raise ChannelLostError(f"{self._federation}: not connected")
            return self._channel

    def _open_session(self) -> "_Session":
        with self._lock:
            if self._session is None:
                raise ChannelLostError(f"{self._federation}: not connected")
            return self._session

    def _pieces_of(self, name: str, offset: int, limit_bytes: int) -> Iterator[bytes]:
        call: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._open_channel().unary_stream(DOWNLOAD)
        request = DownloadRequest(name=name, offset=offset).encode()
        try:
            yield from call(request, timeout=_BULK_SECONDS + limit_bytes / _SLOWEST_BYTES_A_SECOND)
        except (grpc.RpcError, ValueError) as error:
            raise _lost(str(self._federation), error) from error


class _Session:
    """One open stream. A thread reads it, so that `receive` can time out."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._address = address
        self._outgoing: queue.SimpleQueue[pb.Message | None] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[bytes | ProtocolError] = queue.SimpleQueue()
        stub = rpc.FederationStub(channel)  # type: ignore[no-untyped-call]
        self._call = stub.Session(iter(self._outgoing.get, None))
        threading.Thread(target=self._read, name="strongroom-session", daemon=True).start()

    def send(self, message: bytes) -> None:
        self._outgoing.put(pb.Message(message=message))

    def receive(self, timeout_seconds: float | None) -> bytes | None:
        try:
            found = self._incoming.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if isinstance(found, ProtocolError):
            # Whoever asks again hears the same.
            self._incoming.put(found)
            raise found
        return found

    def _read(self) -> None:
        ended: ProtocolError = ChannelLostError(f"{self._address}: the appliance ended the session")
        try:
            for reply in self._call:
                self._incoming.put(message_of(reply))
        except grpc.RpcError as error:
            ended = _lost(self._address, error)
        except ProtocolError as error:
            ended = error
        self._incoming.put(ended)
        self._outgoing.put(None)


class FileBytes:
    """A `ByteSource` over an open file; `keep` is closed with it."""

    def __init__(self, descriptor: int, size: int, keep: object = None) -> None:
        self._descriptor = descriptor
        self._size = size
        self._keep = keep

    def size(self) -> int:
        """How many bytes there are."""
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`; raises `MalformedError` where the bytes end before."""
        done = 0
        while done < len(buffer):
            with reported_as("a download"):
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if count == 0:
                raise MalformedError(f"bytes at {offset}: expected {len(buffer)}, found {done}")
            done += count


_OPTIONS = (
    ("grpc.ssl_target_name_override", GATEWAY_NAME),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The courier pauses and tries again itself, with another credential if need be.
    ("grpc.enable_retries", 0),
)


def _certificate_at(address: Address) -> bytes:
    """The certificate (PEM) that the server shows: pinned for one connection, trusted for nothing."""
    try:
        where = (address.connect_host, address.port)
        return ssl.get_server_certificate(where, timeout=_CONNECT_SECONDS).encode("ascii")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ChannelLostError(f"{address}: {reason}") from error


def _lost(address: str, error: grpc.RpcError | ValueError) -> ProtocolError:
    """What a failed call means: a refusal that came with it, another protocol, or a lost connection."""
    if not isinstance(error, grpc.Call):  # A closed channel raises ValueError.
        return ChannelLostError(f"{address}: the connection was closed")
    try:
        refusal = refusal_from_metadata(error.trailing_metadata() or ())
    except MalformedError as malformed:
        return malformed
    if refusal is not None:
        return refusal
    found = f"{address}: {error.code().name}: {(error.details() or '')[:200]!a}"
    if error.code() in _FATAL:
        return MalformedError(f"{found}; is another version of Strongroom, or something else, listening there?")
    return ChannelLostError(found)


def _pieces(blob: ByteSource, offset: int, end: int, failures: list[StoreError]) -> Iterator[bytes]:
    """The bytes of a blob, piece by piece; `failures` takes what went wrong in reading them."""
    while offset < end:
        buffer = bytearray(min(BULK_MESSAGE_BYTES, end - offset))
        try:
            blob.read_into(offset, memoryview(buffer))
        except StoreError as error:
            failures.append(error)
            raise
        yield bytes(buffer)
        offset += len(buffer)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
