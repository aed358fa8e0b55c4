"""Who gets through the two ports, and what those are told who don't."""

import ssl
import time
from pathlib import Path

import grpc
import pytest

from protocol.credentials import CertificateAuthority, new_credential_key, pem_of
from protocol.errors import RefusalCode
from protocol.wire import strongroom_pb2 as pb
from protocol.wire import strongroom_pb2_grpc as rpc
from protocol.wire.methods import ENROLMENT_LIMIT_BYTES


def http2_headers(path: bytes) -> bytes:
    """A HEADERS frame for stream 1, in literals only (RFC 7541 §6.2.2)."""
    fields = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": path,
        b":authority": b"strongroom-gateway",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields.items())
    return len(block).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + block


def call_over(address: str, path: bytes, message: bytes, context: ssl.SSLContext) -> tuple[str, bytes]:
    """One gRPC call by hand, because gRPC's own client can't be told to use an old TLS; returns version and answer."""
    import socket

    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="strongroom-gateway") as connection,
    ):
        data = b"\0" + len(message).to_bytes(4, "big") + message
        frame = len(data).to_bytes(3, "big") + b"\x00\x01" + (1).to_bytes(4, "big") + data
        settings = b"\0\0\0\x04\0\0\0\0\0"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + http2_headers(path) + frame)
        answer = b""
        # 0x01 with END_STREAM: the trailers.
        while b"tls-version" not in answer and (piece := connection.recv(65_536)):
            answer += piece
        return str(connection.version()), answer


@pytest.fixture
def old_tls(house: object, tmp_path: Path) -> ssl.SSLContext:
    """A client context with a good credential that speaks TLS 1.2 at most."""
    key, now = new_credential_key(), int(time.time())
    issued = house.core.ca.issue(key.spki_der, "spiffe://simulated.digits/silo/silo-0", now - 60, now + 600)
    (tmp_path / "own.pem").write_bytes(pem_of(issued) + key.private_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(tmp_path / "own.pem")
    return context


@pytest.mark.parametrize(
    ("port", "method"),
    [
        ("federation", b"/strongroom.v1.Federation/Session"),
        ("federation", b"/strongroom.v1.Federation/UploadStatus"),
        ("enrolment", b"/strongroom.v1.Enrolment/Hello"),
    ],
)
def test_tls_1_2_is_refused_in_words(house: object, old_tls: ssl.SSLContext, port: str, method: bytes) -> None:
    version, answer = call_over(house.gateway.addresses[port], method, b"", old_tls)
    assert version == "TLSv1.2"
    assert b"tls-version" in answer
    assert b"connect with TLS 1.3" in answer
    assert house.core.notes == [("silo-0", "left", b""), ("silo-1", "left", b"")]


def test_without_a_client_certificate_nobody_reaches_the_federation_port(house: object) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        house.client(None).status(bytes(16))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_nor_with_one_by_another_authority(house: object) -> None:
    stranger = CertificateAuthority.create("boot 1", int(time.time()))
    with pytest.raises(grpc.RpcError) as caught:
        house.client("silo-0", authority=stranger).status(bytes(16))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_credential_of_another_federation_is_refused_in_words(house: object) -> None:
    answer = house.client("silo-0", domain="simulated.other").status(bytes(16))
    assert answer.refusal.code == RefusalCode.NOT_ADMITTED
    assert "spiffe://simulated.digits/silo/<name>" in answer.refusal.expected
    assert "spiffe://simulated.other/silo/silo-0" in answer.refusal.found


def test_enrolment_needs_no_client_certificate_and_passes_bytes_unread(house: object) -> None:
    client = house.client(None)
    stub = rpc.EnrolmentStub(client.channel(client.enrolment))
    assert stub.Hello(pb.Message(message=b"\xffhello")).message == b"welcome, \xffhello"
    assert stub.Enrol(pb.Message(message=b"me")).message == b"admitted, me"


def test_a_strangers_message_is_bounded(house: object) -> None:
    client = house.client(None)
    stub = rpc.EnrolmentStub(client.channel(client.enrolment))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Hello(pb.Message(message=bytes(ENROLMENT_LIMIT_BYTES + 1)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["/strongroom.v1.Federation/Session", "/strongroom.v1.Enclave/Describe"])
def test_the_enrolment_port_serves_nothing_else(house: object, method: str) -> None:
    client = house.client(None)
    with pytest.raises(grpc.RpcError) as caught:
        client.channel(client.enrolment).unary_unary(method)(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_expired_admission_is_refused_in_words_by_the_enclaves_table(house: object) -> None:
    """The certificate is still good for TLS: the words come from inside."""
    talk = house.talk()
    house.core.expired.add("silo-0")
    talk.say(b"cosigned")
    last = talk.rest()[-1]
    assert last.refusal.code == RefusalCode.CREDENTIAL_EXPIRED
    assert last.refusal.remedy == "enrol again"


def test_what_breaks_the_core_ends_the_enclave_and_says_nothing_to_the_stranger(house: object) -> None:
    client = house.client(None)
    with pytest.raises(grpc.RpcError) as caught:
        rpc.EnrolmentStub(client.channel(client.enrolment)).Enrol(pb.Message(message=b"break"), timeout=1)
    assert "secret" not in str(caught.value)
    assert house.fatal == ["ZeroDivisionError"]


def test_nor_does_a_core_that_can_not_say_how_it_is(house: object) -> None:
    house.core.broken = True
    with (
        grpc.insecure_channel(f"unix:{house.folder / 'enclave.sock'}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        rpc.EnclaveStub(channel).Describe(pb.Empty(), timeout=1)
    assert "secret" not in str(caught.value)
    assert house.fatal == ["ZeroDivisionError"]
    house.core.broken = False
