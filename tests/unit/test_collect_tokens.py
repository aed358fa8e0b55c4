"""Token services beside us: what is asked, and bounds on what comes back and when, over real sockets."""

import base64
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from attestation.checklist import Checklist
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectionFailed, NoSealingKey
from attestation.collect.http import RESPONSE_LIMIT_BYTES, HttpService, Response
from attestation.collect.token_endpoints import TokenType, azure_token, confidential_space_token
from attestation.collect.token_platforms import AzurePlatform, ConfidentialSpacePlatform
from attestation.errors import EvidenceRefused
from attestation.tee import Tee
from attestation.token.nonce import require_nonce, runtime_data, token_nonce

REPORT_DATA = bytes(range(64))
TOKEN = b"eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
ISSUER = "https://sharedeus.eus.attest.azure.net"


@dataclass
class FakeService:
    """A launcher or sidecar that answers always the same."""

    answer: Response = field(default_factory=lambda: Response(status=200, body=TOKEN))
    absent: str | None = None
    asked: list[tuple[str, object]] = field(default_factory=list)
    name: str = "service"

    def obstacle(self) -> str | None:
        return self.absent

    def post(self, path: str, body: bytes) -> Response:
        self.asked.append((path, json.loads(body)))
        return self.answer


def space(launcher: FakeService) -> ConfidentialSpacePlatform:
    return ConfidentialSpacePlatform(
        launcher=launcher,
        audience="https://strongroom.example",
        token_type=TokenType.PKI,
        endorsements=EndorsementFolder(None),
    )


def azure(sidecar: FakeService) -> AzurePlatform:
    return AzurePlatform(sidecar=sidecar, issuer=ISSUER, endorsements=EndorsementFolder(None))


def test_the_launcher_is_asked_for_audience_type_and_nonce() -> None:
    launcher = FakeService(answer=Response(status=200, body=TOKEN + b"\n"))
    evidence = space(launcher).evidence(REPORT_DATA)
    assert (evidence.tee, evidence.report) == (Tee.CONFIDENTIAL_SPACE, TOKEN)
    assert launcher.asked == [
        (
            "/v1/token",
            {
                "audience": "https://strongroom.example",
                "token_type": "PKI",
                "nonces": [token_nonce(REPORT_DATA)],
            },
        )
    ]


def test_the_sidecar_is_asked_for_the_agreed_service_and_runtime_data() -> None:
    sidecar = FakeService(answer=Response(status=200, body=json.dumps({"token": TOKEN.decode()}).encode()))
    evidence = azure(sidecar).evidence(REPORT_DATA)
    assert (evidence.tee, evidence.report) == (Tee.AZURE_MAA, TOKEN)
    [(path, asked)] = sidecar.asked
    assert (path, asked["maa_endpoint"]) == ("/attest/maa", "sharedeus.eus.attest.azure.net")
    assert json.loads(base64.b64decode(asked["runtime_data"])) == {"nonce": token_nonce(REPORT_DATA)}


def test_what_the_sidecar_has_the_hardware_commit_to_is_what_the_other_side_expects() -> None:
    """pkg/attest of the sidecar: the report data begins with the SHA-256 of the runtime data, and ends in zeros."""
    sidecar = FakeService(answer=Response(status=200, body=json.dumps({"token": TOKEN.decode()}).encode()))
    azure(sidecar).evidence(REPORT_DATA)
    committed = sha256(base64.b64decode(sidecar.asked[0][1]["runtime_data"])).digest() + bytes(32)
    require_nonce(Checklist(EvidenceRefused), 1, REPORT_DATA, [committed])
    with pytest.raises(EvidenceRefused, match="report_data"):
        require_nonce(Checklist(EvidenceRefused), 1, bytes(63) + b"1", [committed])
    assert sha256(runtime_data(REPORT_DATA)).digest() + bytes(32) == committed


@pytest.mark.parametrize("make", [space, azure])
def test_a_token_service_gives_no_sealing_key(make: Callable[[FakeService], ConfidentialSpacePlatform]) -> None:
    with pytest.raises(NoSealingKey, match="no secret outlives a restart"):
        make(FakeService()).sealing_key()


@pytest.mark.parametrize(
    "issuer",
    ["", "sharedeus.eus.attest.azure.net", "http://a.b.c", "https://a.b.c/x", "https://a.b.c@d", "https://localhost"],
)
def test_an_issuer_is_an_https_host_and_nothing_more(issuer: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        AzurePlatform(sidecar=FakeService(), issuer=issuer, endorsements=EndorsementFolder(None))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Response(status=400, body=b"token_type is a required parameter\x1b"),
            r"status 400: 'token_type is a .*\\x1b'",
        ),
        (Response(status=500, body=bytes(1000)), "status 500"),
        (Response(status=200, body=b""), "expected a compact JWT, found b''"),
        (Response(status=200, body=b"<html>"), "expected a compact JWT"),
        (Response(status=200, body=b"a.b"), "expected a compact JWT"),
        (Response(status=200, body=b"a.b.c d"), "expected a compact JWT"),
    ],
)
def test_what_the_launcher_answers_instead_of_a_token_is_said(answer: Response, words: str) -> None:
    with pytest.raises(CollectionFailed, match=words):
        space(FakeService(answer=answer)).evidence(REPORT_DATA)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"a.b.c", "expected JSON"),
        (b"[" * 50_000, "expected JSON"),
        (b"[]", "expected a token, found none"),
        (b'{"error": "x"}', "expected a token, found none"),
        (b'{"token": 1}', "expected a token, found none"),
        (b'{"token": "no"}', "expected a compact JWT"),
    ],
)
def test_what_the_sidecar_answers_instead_of_a_token_is_said(body: bytes, words: str) -> None:
    with pytest.raises(CollectionFailed, match=words):
        azure_token(FakeService(answer=Response(status=200, body=body)), maa_host="a.b.c", runtime_data=b"{}")


@pytest.mark.parametrize("nonces", [(), ("short",), ("x" * 75,), ("ü" * 40,), ("x" * 20,) * 7])
def test_nonces_that_the_service_would_refuse_are_not_sent(nonces: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="nonce"):
        confidential_space_token(FakeService(), audience="a", nonces=nonces, token_type=TokenType.OIDC)


@pytest.mark.parametrize("make", [space, azure])
def test_report_data_has_its_size(make: Callable[[FakeService], ConfidentialSpacePlatform]) -> None:
    with pytest.raises(ValueError, match="report_data"):
        make(FakeService()).evidence(bytes(63))


# Over real sockets


@contextmanager
def serving(path: Path, *answer: bytes, then_wait: threading.Event | None = None) -> Iterator[list[bytes]]:
    """A server for one connection: reads a request, sends the answer piece by piece, and closes or waits."""
    requests: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                request += connection.recv(65_536)
            requests.append(request)
            try:
                for piece in answer:
                    connection.sendall(piece)
                    time.sleep(0.005 * (len(answer) > 1))
                if then_wait is not None:
                    then_wait.wait(10)
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield requests
    finally:
        if then_wait is not None:
            then_wait.set()
        listener.close()
        thread.join(5)


def service(path: Path, seconds: float = 5.0) -> HttpService:
    return HttpService(str(path), HttpService.on_socket(path)._connect, timeout_seconds=seconds)


def test_a_request_over_a_socket_and_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "tee.sock"
    with serving(path, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na.b.c") as requests:
        assert service(path).post("/v1/token", b'{"a":1}') == Response(status=200, body=b"a.b.c")
    assert requests[0].startswith(b"POST /v1/token HTTP/1.1\r\nHost: localhost\r\n")
    assert requests[0].endswith(b'\r\n\r\n{"a":1}')


@pytest.mark.parametrize(
    "head", [b"Transfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + bytes(0xFFFF) + b"\r\n", b"\r\n"]
)
def test_an_answer_without_end_is_cut_off(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "tee.sock"
    with (
        serving(path, b"HTTP/1.1 200 OK\r\n" + head + b"ffff\r\n" + bytes(3 * RESPONSE_LIMIT_BYTES)),
        pytest.raises(CollectionFailed, match=f"expected at most {RESPONSE_LIMIT_BYTES} bytes, found more"),
    ):
        service(path).post("/", b"{}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na"])
def test_a_service_that_says_no_more_is_waited_for_no_longer_than_agreed(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "tee.sock"
    with (
        serving(path, answer, then_wait=threading.Event()),
        pytest.raises(CollectionFailed, match=r"expected an answer in 0\.2 s"),
    ):
        service(path, seconds=0.2).post("/", b"{}")


def test_the_time_is_that_of_the_whole_exchange(tmp_path: Path) -> None:
    """A byte now and then doesn't start it anew."""
    path, clock = tmp_path / "tee.sock", itertools.count()
    hasty = HttpService(
        str(path), HttpService.on_socket(path)._connect, monotonic=lambda: next(clock), timeout_seconds=5.0
    )
    with (
        serving(path, *[bytes((byte,)) for byte in b"HTTP/1.1 200 OK\r\na: b\r\n\r\n"]),
        pytest.raises(CollectionFailed, match="expected an answer in 5 s"),
    ):
        hasty.post("/", b"{}")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000, b"HTTP/1.1 abc\r\n\r\n"]
)
def test_what_is_no_http_is_said(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "tee.sock"
    with serving(path, answer), pytest.raises(CollectionFailed, match="expected an HTTP answer, found"):
        service(path).post("/", b"{}")


def test_where_nobody_listens_is_said(tmp_path: Path) -> None:
    path = tmp_path / "tee.sock"
    assert service(path).obstacle() == "no such socket"
    with pytest.raises(CollectionFailed, match="No such file"):
        service(path).post("/", b"{}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()
    assert service(path).obstacle() == "nobody listens there"


def test_a_port_of_the_loopback_interface() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = HttpService.on_loopback(port)
        assert (found.name, found.obstacle()) == (f"127.0.0.1:{port}", None)
    assert HttpService.on_loopback(port).obstacle() == "nobody listens there"
