"""Calls that a silo begins and leaves half made: they cost that silo its places, and nobody else theirs."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from protocol.errors import RefusalCode
from protocol.sealing import size_of
from protocol.sealing.geometry import WRAP_BYTES
from protocol.wire import strongroom_pb2 as pb
from protocol.wire.methods import DOWNLOAD, FEDERATION_SERVICE, UPLOAD, upload_metadata

CALLS = 60  # More than the port has threads for all silos of the agreement together.
CALLS_A_SILO = 8
METADATA = upload_metadata(upload_id=bytes(16), offset=0, size=1_300_000)


@pytest.fixture
def half_made(house: Any) -> Iterator[Any]:
    """Begins calls as one silo, over as many connections as they need; what they would say never comes."""
    over = threading.Event()
    calls: list[grpc.Future] = []

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    def begin(method: str, silo: str) -> list[grpc.Future]:
        for number in range(CALLS):
            if number % 12 == 0:
                channel = house.client(silo).channel(house.gateway.addresses["federation"])
            calls.append(channel.stream_unary(method).future(nothing(), metadata=METADATA))
        return calls

    yield begin
    over.set()
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("method", [f"/{FEDERATION_SERVICE}/{name}" for name in ("UploadStatus", "Session")])
def test_half_made_calls_keep_no_other_silo_out(house: Any, half_made: Any, method: str) -> None:
    calls = half_made(method, "silo-0")
    house.eventually(lambda: sum(call.done() for call in calls) >= CALLS - CALLS_A_SILO)
    assert house.client("silo-1").status(bytes(16)) == pb.UploadOffset(offset=0)
    house.talk("silo-1")


@pytest.mark.parametrize("method", [UPLOAD, DOWNLOAD])
def test_nor_do_bulk_calls_without_a_byte(house: Any, half_made: Any, method: str) -> None:
    calls = half_made(method, "silo-0")
    house.eventually(lambda: sum(call.done() for call in calls) >= CALLS - CALLS_A_SILO)
    blob = bytes(size_of(500, WRAP_BYTES, house.layout.update_chunks))
    assert house.client("silo-1").upload(bytes(16), blob).message == b"accepted"


def test_a_silo_with_all_its_places_taken_is_told_so_and_has_them_back_afterwards(house: Any, half_made: Any) -> None:
    calls = half_made(f"/{FEDERATION_SERVICE}/UploadStatus", "silo-0")
    house.eventually(lambda: sum(call.done() for call in calls) >= CALLS - CALLS_A_SILO)
    answer = house.client("silo-0").status(bytes(16))
    assert answer.refusal.code == RefusalCode.BUSY
    assert answer.refusal.expected == "at most 8 calls at a time from a silo"
    for call in calls:
        call.cancel()
    house.eventually(lambda: not house.client("silo-0").status(bytes(16)).HasField("refusal"))


@pytest.mark.parametrize("method", ["UploadStatus", "Download"])
def test_a_call_that_ends_without_its_request_is_refused(house: Any, method: str) -> None:
    channel = house.client("silo-0").channel(house.gateway.addresses["federation"])
    call = channel.stream_stream(f"/{FEDERATION_SERVICE}/{method}")(iter(()))
    if method == "UploadStatus":
        assert [pb.UploadOffset.FromString(answer).refusal.found for answer in call] == ["a call without one"]
        return
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details().startswith("malformed: expected a request, found a call without one")
