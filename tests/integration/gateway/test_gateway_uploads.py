"""Uploads and downloads over the real ports: resumed, bounded, judged."""

import os
import threading

import grpc
import pytest

from protocol.errors import RefusalCode
from protocol.sealing.geometry import WRAP_BYTES, Geometry
from protocol.wire import strongroom_pb2 as pb
from protocol.wire.methods import BULK_MESSAGE_BYTES, UPLOAD, refusal_from_metadata, upload_metadata

HEADER_BYTES = 700
ONE, TWO = bytes(range(16)), b"\x11" * 16


@pytest.fixture
def geometry(house: object) -> Geometry:
    return Geometry(HEADER_BYTES, WRAP_BYTES, house.layout.update_chunks)


@pytest.fixture
def blob(geometry: Geometry) -> bytes:
    return os.urandom(geometry.size)


def cut_after(house: object, client: object, blob: bytes, upload_id: bytes, start: int, end: int) -> None:
    """Send bytes `start` to `end`, wait until the gateway holds them, and break the connection."""
    over = threading.Event()

    def pieces() -> object:
        for at in range(start, end, BULK_MESSAGE_BYTES):
            yield blob[at : min(at + BULK_MESSAGE_BYTES, end)]
        over.wait(10)

    call = (
        client.channel(client.federation)
        .stream_unary(UPLOAD)
        .future(pieces(), metadata=upload_metadata(upload_id=upload_id, offset=start, size=len(blob)))
    )
    part = house.folder / "spool" / "silo-0" / f"{upload_id.hex()}.part"
    house.eventually(lambda: part.exists() and part.stat().st_size == end)
    call.cancel()
    over.set()


def test_an_upload_is_resumed_after_a_cut_at_every_class_of_boundary(
    house: object, geometry: Geometry, blob: bytes
) -> None:
    cuts = [
        5,  # within the magic
        18 + 4 + HEADER_BYTES,  # where the header ends
        geometry.prelude_size,  # where the metadata segment begins
        geometry.offset(1),  # where the first chunk begins
        geometry.offset(1) + 1000,  # within a chunk
        geometry.tag_offset(1),  # between a chunk and its tag
        geometry.offset(2),  # between two chunks
        geometry.signature_offset,
        len(blob) - 1,
    ]
    client, start = house.client(), 0
    for cut in cuts:
        cut_after(house, client, blob, ONE, start, cut)
        start = client.status(ONE).offset
        assert start == cut
    assert client.upload(ONE, blob, offset=start).message == b"accepted"
    assert house.core.notes[-1] == ("silo-0", "complete", blob)


def test_an_upload_survives_the_gateway(house: object, geometry: Geometry, blob: bytes) -> None:
    cut_after(house, house.client(), blob, ONE, 0, geometry.offset(2))
    house.restart_gateway()
    client = house.client()
    assert client.status(ONE).offset == geometry.offset(2)
    assert client.upload(ONE, blob, offset=geometry.offset(2)).message == b"accepted"
    assert house.core.notes[-1] == ("silo-0", "complete", blob)


def test_a_verdict_that_was_lost_is_asked_for_again_without_a_byte(house: object, blob: bytes) -> None:
    client = house.client()
    client.upload(ONE, blob)
    assert client.status(ONE).offset == len(blob)
    assert client.upload(ONE, blob, offset=len(blob)).message == b"accepted"
    assert house.core.heard("silo-0").count("complete") == 2


def test_the_enclaves_refusal_reaches_the_silo(house: object, blob: bytes) -> None:
    house.core.refused_uploads.add("silo-0")
    assert house.client().upload(ONE, blob).refusal.code == RefusalCode.UPDATE_NOT_FINITE


def test_an_older_upload_is_deleted_and_the_enclave_can_still_read_it(house: object, blob: bytes) -> None:
    client = house.client()
    client.upload(ONE, blob)
    client.upload(TWO, blob[::-1])
    assert [path.name for path in (house.folder / "spool" / "silo-0").iterdir()] == [f"{TWO.hex()}.blob"]
    buffer = bytearray(len(blob))
    house.core.sources[0].read_into(0, memoryview(buffer))
    assert bytes(buffer) == blob


def test_an_upload_that_hangs_gives_way_to_its_silo(house: object, geometry: Geometry, blob: bytes) -> None:
    """A silo whose connection died without a word connects again long before the gateway could notice."""
    hanging, over = house.client(), threading.Event()

    def pieces() -> object:
        yield blob[:1000]
        over.wait(20)

    call = (
        hanging.channel(hanging.federation)
        .stream_unary(UPLOAD)
        .future(pieces(), metadata=upload_metadata(upload_id=ONE, offset=0, size=len(blob)))
    )
    part = house.folder / "spool" / "silo-0" / f"{ONE.hex()}.part"
    house.eventually(lambda: part.exists() and part.stat().st_size == 1000)
    client = house.client()
    assert client.status(ONE).offset == 1000
    assert client.upload(ONE, blob, offset=1000).message == b"accepted"
    assert call.exception(5).code() is grpc.StatusCode.CANCELLED
    over.set()


@pytest.mark.parametrize("size", [0, 1000, 2**40])
def test_a_size_that_the_layout_excludes_is_refused_before_a_byte_is_kept(house: object, size: int) -> None:
    answer = house.client().upload(ONE, bytes(4 * BULK_MESSAGE_BYTES), size=size)
    assert answer.refusal.code == RefusalCode.WRONG_SIZE
    assert "as the layout has it" in answer.refusal.expected
    assert not (house.folder / "spool" / "silo-0").exists()


def test_a_byte_too_many_is_refused(house: object, blob: bytes) -> None:
    answer = house.client().upload(ONE, blob + b"x", size=len(blob))
    assert (answer.refusal.code, answer.refusal.found) == (RefusalCode.WRONG_SIZE, "more")
    assert "complete" not in house.core.heard("silo-0")


def test_a_byte_too_few_is_refused_and_the_rest_may_follow(house: object, blob: bytes) -> None:
    client = house.client()
    assert client.upload(ONE, blob[:-1], size=len(blob)).refusal.code == RefusalCode.WRONG_SIZE
    assert client.upload(ONE, blob, offset=len(blob) - 1).message == b"accepted"


def test_the_wrong_offset_is_refused_and_the_right_one_named(house: object, blob: bytes) -> None:
    answer = house.client().upload(ONE, blob, offset=1)
    assert answer.refusal.code == RefusalCode.WRONG_SIZE
    assert answer.refusal.expected == "an upload that goes on at byte 0"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("upload-id", "zz" * 16), ("offset", "0"), ("size", "5000")),
        (("upload-id", "../" * 10), ("offset", "0"), ("size", "5000")),
        (("upload-id", "00" * 16), ("offset", "-1"), ("size", "5000")),
        (("upload-id", "00" * 16), ("offset", "0"), ("size", "1e6")),
        (("upload-id", "00" * 16), ("offset", "0"), ("size", "9" * 30)),
    ],
)
def test_metadata_that_is_none_is_refused(house: object, metadata: tuple[tuple[str, str], ...]) -> None:
    client = house.client()
    call = client.channel(client.federation).stream_unary(UPLOAD, response_deserializer=pb.Reply.FromString)
    assert call(iter([b"x"]), metadata=metadata, timeout=10).refusal.code == RefusalCode.MALFORMED


def test_a_message_beyond_the_limit_never_arrives(house: object, blob: bytes) -> None:
    client = house.client()
    call = client.channel(client.federation).stream_unary(UPLOAD)
    with pytest.raises(grpc.RpcError) as caught:
        call(
            iter([bytes(2 * BULK_MESSAGE_BYTES)]),
            metadata=upload_metadata(upload_id=ONE, offset=0, size=len(blob)),
            timeout=10,
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("upload_id", [b"", b"../../../../etc", bytes(17)])
def test_the_status_of_no_upload_is_refused(house: object, upload_id: bytes) -> None:
    assert house.client().status(upload_id).refusal.code == RefusalCode.MALFORMED


@pytest.mark.parametrize("change", ["link", "gone"])
def test_an_upload_that_is_no_longer_in_the_spool_is_sent_again(
    house: object, blob: bytes, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changed the spool, it wasn't the silo: it is told as where bytes have changed there."""
    link = house.gateway._link
    complete, changed = link.complete, []

    def change_once(silo: str, name: str) -> pb.Reply:
        path = house.folder / "spool" / silo / name
        if not changed:
            changed.append(path)
            moved = path.rename(path.with_name("elsewhere"))
            if change == "link":
                path.symlink_to(moved)
        return complete(silo, name)

    monkeypatch.setattr(link, "complete", change_once)
    client = house.client()
    refusal = client.upload(ONE, blob).refusal
    assert refusal.code == RefusalCode.UPDATE_SIGNATURE
    assert refusal.expected == "the upload in the spool, as the silo sent it"
    assert refusal.found.startswith(f"upload {ONE.hex()}.blob: the spool has no such file (")
    assert client.status(ONE).offset == 0
    assert client.upload(ONE, blob).message == b"accepted"
    assert house.fatal == []


# Downloads


def refusal_of(house: object, name: str, offset: int = 0) -> RefusalCode:
    with pytest.raises(grpc.RpcError) as caught:
        house.client().download(name, offset)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    refused = refusal_from_metadata(caught.value.trailing_metadata())
    assert refused is not None
    assert caught.value.details() == str(refused.refusal)
    return refused.refusal.code


@pytest.mark.parametrize("offset", [0, 1, BULK_MESSAGE_BYTES, 2 * BULK_MESSAGE_BYTES + 5])
def test_a_body_is_downloaded_from_any_offset(house: object, offset: int) -> None:
    body = os.urandom(2 * BULK_MESSAGE_BYTES + 5)
    (house.folder / "models" / "00000001.model.blob").write_bytes(body)
    assert house.client().download("00000001.model", offset) == body[offset:]


def test_what_is_not_there_or_not_a_body_is_refused(house: object) -> None:
    (house.folder / "secret.blob").write_bytes(b"x")
    (house.folder / "models" / "link.blob").symlink_to(house.folder / "secret.blob")
    (house.folder / "models" / "folder.blob").mkdir()
    (house.folder / "models" / "body.blob").write_bytes(b"12345")
    for name in ("absent", "../secret", "/etc/passwd", "folder", "a" * 200, ".hidden"):
        assert refusal_of(house, name) is RefusalCode.WRONG_ROUND
    assert refusal_of(house, "body", 6) is RefusalCode.WRONG_SIZE
    with pytest.raises(grpc.RpcError):
        house.client().download("link")


def test_a_silo_has_only_so_many_downloads_at_a_time(house: object) -> None:
    """And an abandoned one gives its place back."""
    (house.folder / "models" / "body.blob").write_bytes(bytes(32 * BULK_MESSAGE_BYTES))
    client = house.client()
    stream = client.channel(client.federation).unary_stream("/strongroom.v1.Federation/Download")
    running = [stream(b'{"name":"body","offset":0}') for _ in range(4)]
    for call in running:
        next(call)
    assert refusal_of(house, "body") is RefusalCode.BUSY
    running[0].cancel()
    house.eventually(lambda: not refused(client))
    for call in running:
        call.cancel()


def refused(client: object) -> bool:
    try:
        return not client.download("body")
    except grpc.RpcError:
        return True
