"""A witness over HTTP, on the loopback: what its server takes, what strangers can hold up, what a courier bears."""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from appliance.gateway.witness_http import WitnessAwayError, WitnessUrl, post
from audit.log import LogWriter
from audit.note import NoteSignature, VerifierKey
from audit.store import MemoryStore, StoreError
from audit.witnessing.answer import MAXIMUM_ANSWER_BYTES, SIZE_TYPE, Conflict, read_answer
from audit.witnessing.request import AddCheckpoint
from audit.witnessing.state import WitnessState
from audit.witnessing.witness import Witness
from protocol.errors import MalformedError
from protocol.keys import SigningKey
from strongroom import witness_server
from strongroom.witness_server import WitnessServer

ORIGIN = "simulated.example/log"
LOG_KEY, WITNESS_KEY = SigningKey(b"l" * 32), SigningKey(b"w" * 32)
KEY = VerifierKey.of_cosigner("witness.example/w1", WITNESS_KEY.public)


class House:
    """A witness's server in a thread."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.events: list[str] = []
        state = WitnessState.create(self.store, KEY)
        state.add(VerifierKey.of_log(ORIGIN, LOG_KEY.public))
        witness = Witness(key=WITNESS_KEY, state=state, clock=lambda: 1_800_000_000, event=self.events.append)
        self.server = WitnessServer(("127.0.0.1", 0), witness, self.events.append)
        self.url = WitnessUrl.parse(f"http://127.0.0.1:{self.server.server_port}")
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.server.server_port), 10) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()


@pytest.fixture
def log() -> LogWriter:
    writer = LogWriter.create(MemoryStore(), ORIGIN, LOG_KEY)
    for number in range(9):
        writer.append([b"%d" % number])
    return writer


def request(log: LogWriter, old: int, size: int) -> bytes:
    proof = log.consistency(old, size) if 0 < old < size else ()
    return AddCheckpoint(old_size=old, proof=proof, checkpoint=log.checkpoint_at(size)).encode()


def test_it_cosigns_over_http(house: House, log: LogWriter) -> None:
    for old, size in ((0, 3), (3, 9)):
        line = read_answer(post(house.url, request(log, old, size)), KEY)
        assert isinstance(line, NoteSignature)
        assert KEY.verify(line, log.checkpoint_at(size).note.text) == 1_800_000_000
    answer = post(house.url, request(log, 3, 9))
    assert (answer.status, answer.content_type) == (409, SIZE_TYPE)
    assert read_answer(answer, KEY) == Conflict(size=9)


def test_a_connection_may_be_kept(house: House, log: LogWriter) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", house.server.server_port, timeout=10)
    for old, size in ((0, 1), (1, 2), (2, 9)):
        connection.request("POST", "/add-checkpoint", body=request(log, old, size))
        response = connection.getresponse()
        assert response.status == 200
        assert response.read().startswith("— witness.example/w1 ".encode())
    connection.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /add-checkpoint HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        (b"POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 404),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: h\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 411),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 5\r\n\r\nold 0", 400),
        (b"PUT /add-checkpoint HTTP/1.1\r\nContent-Length: 5\r\n\r\nold 0", 501),
        (b"POST " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_gets_a_status_and_no_more(house: House, data: bytes, status: int) -> None:
    with suppress(ConnectionResetError):  # It may close before it has read all of ours.
        answer = house.raw(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        assert f" {status} ".encode() in answer[:60] or f"code: {status}".encode() in answer
        assert b"Python" not in answer
    assert house.events == []


def test_a_state_that_can_not_be_written_is_an_error_and_no_cosignature(
    house: House, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, data: bytes) -> None:
        raise StoreError("store: No space left on device")

    monkeypatch.setattr(house.store, "write", full)
    answer = post(house.url, request(log, 0, 3))
    assert answer.status == 500
    assert "No space" in house.events[0]
    assert b"No space" not in answer.body
    monkeypatch.undo()
    assert post(house.url, request(log, 0, 3)).status == 200


def test_strangers_who_hold_all_places_hold_them_for_a_while_only(
    log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness_server, "MAXIMUM_CONNECTIONS", 2)
    monkeypatch.setattr(witness_server, "CONNECTION_SECONDS", 0.3)
    house = House()
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError):
            while not stop.wait(0.05):
                connection.sendall(b"P")

    idle = [socket.create_connection(("127.0.0.1", house.server.server_port)) for _ in range(2)]
    for connection in idle:
        threading.Thread(target=drip, args=(connection,), daemon=True).start()
    deadline = time.monotonic() + 20
    refused = 0
    while True:
        assert time.monotonic() < deadline
        try:
            assert post(house.url, request(log, 0, 3)).status == 200
            break
        except WitnessAwayError:
            refused += 1
            time.sleep(0.05)
    stop.set()
    assert refused
    for connection in idle:
        connection.close()
    house.close()


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[WitnessUrl]:
    """A server that answers one connection as told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield WitnessUrl.parse(f"http://127.0.0.1:{listener.getsockname()[1]}/prefix/")


def test_a_witness_that_drips_is_away_after_its_time() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)

    began = time.monotonic()
    with answering(drip) as url, pytest.raises((WitnessAwayError, MalformedError)):
        read_answer(post(url, b"", seconds=0.3), KEY)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_no_answer(said: bytes) -> None:
    with (
        answering(lambda connection: connection.sendall(said)) as url,
        pytest.raises((WitnessAwayError, MalformedError)),
    ):
        read_answer(post(url, b"", seconds=5), KEY)


def test_an_answer_without_end_is_cut() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(64):
            connection.sendall(bytes(2**20))

    with answering(flood) as url:
        answer = post(url, b"", seconds=10)
        assert len(answer.body) == MAXIMUM_ANSWER_BYTES + 1
        with pytest.raises(MalformedError, match="expected at most"):
            read_answer(answer, KEY)


def test_a_redirect_is_not_followed() -> None:
    redirect = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with answering(lambda connection: connection.sendall(redirect)) as url:
        assert post(url, b"", seconds=5).status == 307


def test_nobody_there() -> None:
    with pytest.raises(WitnessAwayError, match="ConnectionRefusedError"):
        post(WitnessUrl.parse("http://127.0.0.1:1"), b"", seconds=5)


@pytest.mark.parametrize("url", ["", "http://", "http://h:0", "http://h:70000", "https://h/?q", "http://h/a b", "h:80"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(MalformedError):
        WitnessUrl.parse(url)


def test_urls() -> None:
    assert WitnessUrl.parse("https://h/a/b/") == WitnessUrl(secure=True, host="h", port=443, prefix="/a/b")
    assert WitnessUrl.parse("http://[::1]:7300") == WitnessUrl(secure=False, host="::1", port=7300, prefix="")
