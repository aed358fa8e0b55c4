"""The spool on both sides: what the gateway writes, and what the enclave dares to open."""

import gc
import os
from pathlib import Path

import pytest

from appliance.enclave.spool import EnclaveSpool
from appliance.gateway import spool as gateway_spool
from appliance.gateway.spool import Spool
from protocol.errors import MalformedError, RefusalCode, RefusedError

ONE, TWO = bytes(16), b"\x11" * 16
NAME = f"{ONE.hex()}.blob"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Spool:
    return Spool(folder, smallest=4, largest=100)


def send(spool: Spool, data: bytes, *, upload_id: bytes = ONE, offset: int = 0, size: int = 10) -> str:
    with spool.resume("north", upload_id, offset=offset, size=size) as upload:
        upload.write(data)
        return upload.complete()


def refusal(call: object, *arguments: object, **named: object) -> tuple[RefusalCode, str]:
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **named)
    return caught.value.refusal.code, str(caught.value)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_upload_goes_on_where_it_stopped(spool: Spool, folder: Path) -> None:
    assert spool.offset("north", ONE) == 0
    with spool.resume("north", ONE, offset=0, size=10) as upload:
        upload.write(b"0123")
    assert spool.offset("north", ONE) == 4
    assert send(spool, b"456789", offset=4) == NAME
    assert (folder / "north" / NAME).read_bytes() == b"0123456789"
    assert spool.offset("north", ONE) == 10


def test_a_complete_upload_is_named_again_and_takes_no_more_bytes(spool: Spool, folder: Path) -> None:
    send(spool, b"0123456789")
    assert send(spool, b"", offset=10) == NAME
    assert refusal(send, spool, b"x", offset=10)[0] is RefusalCode.WRONG_SIZE
    assert refusal(send, spool, b"x", offset=10, size=11)[0] is RefusalCode.WRONG_SIZE
    assert refusal(send, spool, b"0123456789", offset=0)[0] is RefusalCode.WRONG_SIZE
    assert (folder / "north" / NAME).read_bytes() == b"0123456789"


@pytest.mark.parametrize("size", [0, 3, 101, 10**17])
def test_a_size_that_the_layout_excludes_is_refused_before_a_byte_is_kept(
    spool: Spool, folder: Path, size: int
) -> None:
    code, text = refusal(send, spool, b"", size=size)
    assert code is RefusalCode.WRONG_SIZE
    assert "4 to 100 bytes, as the layout has it" in text
    assert files(folder) == []


@pytest.mark.parametrize("offset", [1, 5, 11])
def test_another_offset_than_the_spools_is_refused_and_named(spool: Spool, offset: int) -> None:
    code, text = refusal(send, spool, b"", offset=offset)
    assert code is RefusalCode.WRONG_SIZE
    assert "goes on at byte 0" in text


def test_more_bytes_than_announced_are_refused(spool: Spool) -> None:
    code, text = refusal(send, spool, b"01234567890")
    assert code is RefusalCode.WRONG_SIZE
    assert "the 10 bytes that were announced, found more" in text


def test_fewer_bytes_than_announced_are_kept_and_refused(spool: Spool) -> None:
    code, text = refusal(send, spool, b"012345678")
    assert code is RefusalCode.WRONG_SIZE
    assert "go on with the upload" in text
    assert spool.offset("north", ONE) == 9


def test_a_silo_has_one_upload_in_the_making_and_one_complete(spool: Spool, folder: Path) -> None:
    with spool.resume("north", TWO, offset=0, size=10) as upload:
        upload.write(b"0123")
    send(spool, b"0123456789")
    assert files(folder) == [f"north/{NAME}"]
    send(spool, b"abcdefghij", upload_id=TWO)
    assert len(files(folder)) == 2
    spool.forget_older("north", TWO)
    assert files(folder) == [f"north/{TWO.hex()}.blob"]


def test_one_silos_uploads_leave_anothers_alone(spool: Spool, folder: Path) -> None:
    with spool.resume("south", ONE, offset=0, size=10) as upload:
        upload.write(b"0123")
    send(spool, b"0123456789")
    spool.forget_older("north", ONE)
    assert files(folder) == [f"north/{NAME}", f"south/{ONE.hex()}.part"]


def test_another_boot_forgets_everything_and_the_same_boot_nothing(spool: Spool, folder: Path) -> None:
    spool.serve_boot(b"\1" * 32)
    send(spool, b"0123456789")
    spool.serve_boot(b"\1" * 32)
    assert spool.offset("north", ONE) == 10
    (folder / "stray").write_text("not ours")
    spool.serve_boot(b"\2" * 32)
    assert spool.offset("north", ONE) == 0
    assert files(folder) == ["boot"]


@pytest.mark.parametrize("silo", ["", "..", "a/b", "North", "x" * 64, "a\0"])
def test_a_silo_name_is_a_name(spool: Spool, silo: str) -> None:
    with pytest.raises(RefusedError):
        spool.offset(silo, ONE)


@pytest.mark.parametrize("upload_id", [b"", b"short", bytes(17)])
def test_an_upload_id_has_sixteen_bytes(spool: Spool, upload_id: bytes) -> None:
    assert refusal(spool.offset, "north", upload_id)[0] is RefusalCode.MALFORMED


def test_a_full_disk_is_said_in_words(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_spool, "_SPARE_BYTES", 2**62)
    code, text = refusal(send, spool, b"0123456789")
    assert code is RefusalCode.BUSY
    assert "full disk" in text


# The enclave's side


@pytest.fixture
def inside(folder: Path) -> EnclaveSpool:
    (folder / "north").mkdir()
    (folder / "north" / NAME).write_bytes(b"0123456789")
    return EnclaveSpool(folder, largest=100)


def test_the_enclave_reads_anywhere_in_the_file(inside: EnclaveSpool) -> None:
    blob = inside.open("north", NAME)
    buffer = bytearray(4)
    blob.read_into(3, memoryview(buffer))
    assert (blob.size(), bytes(buffer)) == (10, b"3456")
    with pytest.raises(MalformedError, match="expected 4 bytes, found 2"):
        blob.read_into(8, memoryview(buffer))


def test_a_deleted_file_lives_on_until_nobody_needs_it(inside: EnclaveSpool, folder: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    blob = inside.open("north", NAME)
    (folder / "north" / NAME).unlink()
    buffer = bytearray(10)
    blob.read_into(0, memoryview(buffer))
    assert bytes(buffer) == b"0123456789"
    del blob
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("silo", "name"),
    [
        ("north", "../north/" + NAME),
        ("north", ONE.hex() + ".part"),
        ("north", ONE.hex().upper() + "A.blob"),
        ("north", NAME + "\n"),
        ("..", NAME),
        ("north/../north", NAME),
        ("", NAME),
        ("south", NAME),
        ("north", TWO.hex() + ".blob"),
    ],
)
def test_the_enclave_opens_nothing_by_a_strange_name(inside: EnclaveSpool, silo: str, name: str) -> None:
    with pytest.raises(MalformedError, match="upload"):
        inside.open(silo, name)


def test_the_enclave_follows_no_links_and_opens_no_devices(inside: EnclaveSpool, folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"sealed state")
    traps = {number: folder / "north" / f"{number:032x}.blob" for number in range(1, 4)}
    traps[1].symlink_to(secret)
    os.mkfifo(traps[2])
    traps[3].mkdir()
    (folder / "south").symlink_to(folder / "north")
    for trap in traps.values():
        with pytest.raises(MalformedError):
            inside.open("north", trap.name)
    with pytest.raises(MalformedError):
        inside.open("south", NAME)


def test_the_enclave_bounds_the_size(inside: EnclaveSpool, folder: Path) -> None:
    os.truncate(folder / "north" / NAME, 101)
    with pytest.raises(MalformedError, match="at most 100 bytes, found 101"):
        inside.open("north", NAME)


def test_a_file_that_shrinks_under_the_enclave_is_an_error_not_zeros(inside: EnclaveSpool, folder: Path) -> None:
    blob = inside.open("north", NAME)
    os.truncate(folder / "north" / NAME, 2)
    with pytest.raises(MalformedError, match="found 2"):
        blob.read_into(0, memoryview(bytearray(10)))
