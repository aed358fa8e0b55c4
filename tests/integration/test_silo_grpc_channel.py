"""The silo's channel over real TLS, against a server that a test makes answer, refuse, break or lie."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from audit.store import MemorySource
from protocol.credentials import CertificateAuthority, new_credential_key, pem_of
from protocol.errors import MalformedError, RefusalCode, RefusedError, refuse
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import (
    BULK_MESSAGE_BYTES,
    FEDERATION_SERVICE,
    GATEWAY_NAME,
    REFUSAL_METADATA,
    DownloadRequest,
    refusal_to_wire,
)
from silo_client.channel import ChannelLostError, Credential
from silo_client.config import Address
from silo_client.grpc_channel import FileBytes, GrpcChannel

NOW = int(time.time())
NO = refuse(RefusalCode.BUSY, expected="a quiet day", found="another", remedy="wait")
UPLOAD_ID = bytes(range(16))


class Server(rpc.EnrolmentServicer, rpc.FederationServicer):
    """Both ports in one process; its attributes say how it behaves."""

    def __init__(self) -> None:
        self.authority = CertificateAuthority.create("test", NOW)
        key = new_credential_key()
        self._pair = (key.private_pem(), pem_of(key.gateway_certificate(GATEWAY_NAME, NOW)))
        self.refusing = False
        self.breaking_after: int | None = None
        self.offset: int | None = None
        self.part = bytearray()
        self.messages: list[bytes] = []
        self.body = os.urandom(3 * BULK_MESSAGE_BYTES + 17)
        self.answers: list[bytes] = []
        self.downloads: list[int] = []
        self.requests: list[int] = []
        self._servers: list[grpc.Server] = []
        self.enrolment = self._listen(grpc.ssl_server_credentials([self._pair]), self._add_enrolment)
        self.federation = self._listen(
            grpc.ssl_server_credentials([self._pair], pem_of(self.authority.certificate_der), True),
            self._add_federation,
        )

    def _listen(self, credentials: grpc.ServerCredentials, add: Any) -> Address:
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 2**21)])
        add(server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        self._servers.append(server)
        return Address(host="127.0.0.1", port=port)

    def _add_enrolment(self, server: grpc.Server) -> None:
        rpc.add_EnrolmentServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def _add_federation(self, server: grpc.Server) -> None:
        rpc.add_FederationServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        handlers = {
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload, response_serializer=pb.Reply.SerializeToString),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(FEDERATION_SERVICE, handlers),))

    def stop(self) -> None:
        for server in self._servers:
            server.stop(None).wait()

    def _reply(self, message: bytes) -> pb.Reply:
        return pb.Reply(refusal=refusal_to_wire(NO.refusal)) if self.refusing else pb.Reply(message=message)

    def Hello(self, request: pb.Message, context: Any) -> pb.Reply:
        return self._reply(b"welcome " + request.message)

    def Enrol(self, request: pb.Message, context: Any) -> pb.Reply:
        return self._reply(b"admitted " + request.message)

    def Session(self, request_iterator: Iterator[pb.Message], context: Any) -> Iterator[pb.Reply]:
        for message in request_iterator:
            self.messages.append(message.message)
            if message.message == b"break":
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            if message.message == b"end":
                return
            yield self._reply(b"heard " + message.message)

    def UploadStatus(self, request: pb.UploadId, context: Any) -> pb.UploadOffset:
        assert request.upload_id == UPLOAD_ID
        if self.refusing:
            return pb.UploadOffset(refusal=refusal_to_wire(NO.refusal))
        return pb.UploadOffset(offset=len(self.part) if self.offset is None else self.offset)

    def upload(self, pieces: Iterator[bytes], context: Any) -> pb.Reply:
        metadata = dict(context.invocation_metadata())
        assert metadata["upload-id"] == UPLOAD_ID.hex()
        assert int(metadata["offset"]) == len(self.part)
        self.requests.append(int(metadata["offset"]))
        for number, piece in enumerate(pieces):
            if number == self.breaking_after:
                self.breaking_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            self.part += piece
        assert int(metadata["size"]) == len(self.part)
        return self._reply(b"accepted")

    def download(self, request: bytes, context: Any) -> Iterator[bytes]:
        wanted = DownloadRequest.parse(request)
        self.downloads.append(wanted.offset)
        if self.refusing:
            context.set_trailing_metadata(((REFUSAL_METADATA, refusal_to_wire(NO.refusal).SerializeToString()),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
        for number, start in enumerate(range(wanted.offset, len(self.body), BULK_MESSAGE_BYTES)):
            if number == self.breaking_after:
                self.breaking_after = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            yield self.body[start : start + BULK_MESSAGE_BYTES]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def channel(server: Server, tmp_path: Path) -> Iterator[GrpcChannel]:
    made = GrpcChannel(enrolment=server.enrolment, federation=server.federation, scratch=tmp_path / "downloads")
    yield made
    made.close()


def credential(server: Server, *, until: int = NOW + 600, authority: CertificateAuthority | None = None) -> Credential:
    key = new_credential_key()
    certificate = (authority or server.authority).issue(
        key.spki_der, "spiffe://simulated.test/silo/silo-0", NOW - 600, until
    )
    return Credential(certificate=certificate, key=key, expires=until, renew_at=until)


@pytest.fixture
def connected(server: Server, channel: GrpcChannel) -> GrpcChannel:
    channel.connect(credential(server))
    return channel


def received(channel: GrpcChannel) -> bytes:
    message = channel.receive(10)
    assert message is not None
    return message


def test_enrolment_passes_messages_as_they_are(channel: GrpcChannel) -> None:
    assert channel.hello(b"\x00x") == b"welcome \x00x"
    assert channel.enrol(b"y") == b"admitted y"


def test_a_refusal_comes_in_its_own_words(server: Server, channel: GrpcChannel) -> None:
    server.refusing = True
    with pytest.raises(RefusedError, match="busy: expected a quiet day, found another; wait"):
        channel.hello(b"")
    with pytest.raises(RefusedError, match="busy"):
        channel.enrol(b"")


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        free = Address(host="127.0.0.1", port=listening.getsockname()[1])
    channel = GrpcChannel(enrolment=free, federation=free, scratch=tmp_path)
    with pytest.raises(ChannelLostError, match=f"127.0.0.1:{free.port}: Connection refused"):
        channel.hello(b"")


def test_something_else_listens_there(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])

        def answer() -> None:
            connection, _ = listening.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ChannelLostError, match=str(address)):
            GrpcChannel(enrolment=address, federation=address, scratch=tmp_path).hello(b"")


class TestSession:
    def test_messages_go_both_ways(self, server: Server, connected: GrpcChannel) -> None:
        connected.send(b"one")
        connected.send(b"two")
        assert [received(connected), received(connected)] == [b"heard one", b"heard two"]
        assert server.messages == [b"one", b"two"]

    def test_receiving_waits_no_longer_than_told(self, connected: GrpcChannel) -> None:
        assert connected.receive(0.05) is None
        connected.send(b"x")
        assert received(connected) == b"heard x"

    @pytest.mark.parametrize("how", [b"break", b"end"])
    def test_a_session_that_ends_is_lost_for_everybody(self, connected: GrpcChannel, how: bytes) -> None:
        connected.send(how)
        for _ in range(2):
            with pytest.raises(ChannelLostError):
                connected.receive(10)

    def test_a_refusal_ends_it(self, server: Server, connected: GrpcChannel) -> None:
        server.refusing = True
        connected.send(b"x")
        with pytest.raises(RefusedError, match="busy"):
            connected.receive(10)

    def test_closing_wakes_whoever_waits(self, connected: GrpcChannel) -> None:
        threading.Timer(0.1, connected.close).start()
        with pytest.raises(ChannelLostError):
            connected.receive(20)
        with pytest.raises(ChannelLostError, match="not connected"):
            connected.send(b"x")

    def test_it_can_be_opened_again(self, server: Server, connected: GrpcChannel) -> None:
        connected.close()
        connected.connect(credential(server))
        connected.send(b"x")
        assert received(connected) == b"heard x"

    @pytest.mark.parametrize("what", ["another authority", "expired"])
    def test_a_credential_that_the_gateway_does_not_take(self, server: Server, channel: GrpcChannel, what: str) -> None:
        if what == "expired":
            wrong = credential(server, until=NOW - 60)
        else:
            wrong = credential(server, authority=CertificateAuthority.create("other", NOW))
        channel.connect(wrong)
        channel.send(b"x")
        with pytest.raises(ChannelLostError):
            channel.receive(20)


class TestUpload:
    def test_all_of_it_arrives(self, server: Server, connected: GrpcChannel) -> None:
        blob = os.urandom(2 * BULK_MESSAGE_BYTES + 5)
        assert connected.upload(UPLOAD_ID, MemorySource("update", blob)) == b"accepted"
        assert bytes(server.part) == blob

    def test_it_goes_on_where_it_stopped(self, server: Server, connected: GrpcChannel) -> None:
        blob = os.urandom(3 * BULK_MESSAGE_BYTES)
        server.breaking_after = 2
        with pytest.raises(ChannelLostError):
            connected.upload(UPLOAD_ID, MemorySource("update", blob))
        assert connected.upload(UPLOAD_ID, MemorySource("update", blob)) == b"accepted"
        assert server.requests == [0, 2 * BULK_MESSAGE_BYTES]
        assert bytes(server.part) == blob

    def test_a_complete_one_asks_for_the_verdict_again(self, server: Server, connected: GrpcChannel) -> None:
        blob = os.urandom(100)
        connected.upload(UPLOAD_ID, MemorySource("update", blob))
        assert connected.upload(UPLOAD_ID, MemorySource("update", blob)) == b"accepted"
        assert server.requests == [0, 100]

    def test_refusals(self, server: Server, connected: GrpcChannel) -> None:
        server.refusing = True
        with pytest.raises(RefusedError, match="busy"):
            connected.upload(UPLOAD_ID, MemorySource("update", b"x"))

    def test_an_offset_beyond_the_blob_is_no_answer(self, server: Server, connected: GrpcChannel) -> None:
        server.offset = 2
        with pytest.raises(MalformedError, match="expected an offset of at most 1, found 2"):
            connected.upload(UPLOAD_ID, MemorySource("update", b"x"))

    def test_without_a_connection(self, channel: GrpcChannel) -> None:
        with pytest.raises(ChannelLostError, match="not connected"):
            channel.upload(UPLOAD_ID, MemorySource("update", b"x"))


class TestDownload:
    def body(self, channel: GrpcChannel, limit_bytes: int = 2**30) -> bytes:
        source = channel.download("model", limit_bytes=limit_bytes)
        found = bytearray(source.size())
        source.read_into(0, memoryview(found))
        return bytes(found)

    def test_all_of_it_arrives_and_leaves_no_file(self, server: Server, connected: GrpcChannel, tmp_path: Path) -> None:
        assert self.body(connected) == server.body
        assert list((tmp_path / "downloads").iterdir()) == []

    def test_it_goes_on_where_it_stopped(self, server: Server, connected: GrpcChannel) -> None:
        server.breaking_after = 2
        assert self.body(connected) == server.body
        assert server.downloads == [0, 2 * BULK_MESSAGE_BYTES]

    def test_more_than_the_layout_allows_is_cut_off(self, server: Server, connected: GrpcChannel) -> None:
        with pytest.raises(
            MalformedError,
            match=f"body model: expected at most {BULK_MESSAGE_BYTES} bytes, as the layout has it, found more",
        ):
            self.body(connected, limit_bytes=BULK_MESSAGE_BYTES)

    def test_a_refusal_comes_in_its_own_words(self, server: Server, connected: GrpcChannel) -> None:
        server.refusing = True
        with pytest.raises(RefusedError, match="busy: expected a quiet day"):
            self.body(connected)

    def test_reading_beyond_the_end_is_an_error(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w+b") as stream:
            stream.write(b"abc")
            stream.flush()
            source = FileBytes(stream.fileno(), 3)
            with pytest.raises(MalformedError, match="expected 4, found 3"):
                source.read_into(0, memoryview(bytearray(4)))
