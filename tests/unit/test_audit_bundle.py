"""The bundle's reader: one spelling, and everything else is refused by name."""

import io
import tarfile

import pytest
from bundled import archive, member, opened

from audit.bundle import END
from audit.store import MAXIMUM_READ_BYTES, NotFound, StoreError
from protocol.errors import MalformedError

AGREEMENT = member("federation.toml", b"agreement")
NOTE = member("log/checkpoint", b"note")
GOOD = archive(AGREEMENT, NOTE)


def test_it_is_read_by_name() -> None:
    bundle = opened(GOOD)
    assert bundle.agreement == b"agreement"
    assert [*bundle.names()] == ["log/checkpoint"]
    assert bundle.read("log/checkpoint", limit_bytes=4) == b"note"
    with pytest.raises(StoreError, match="expected at most 3 bytes, found 4"):
        bundle.read("log/checkpoint", limit_bytes=3)
    with pytest.raises(NotFound):
        bundle.read("log/checkpoints")
    with pytest.raises(StoreError, match="relative name"):
        bundle.read("log/../federation.toml")


def test_many_files_are_found() -> None:
    names = [f"log/checkpoints/{number:05}.note" for number in range(1, 1000)]
    bundle = opened(archive(AGREEMENT, *(member(name, name.encode()) for name in names)))
    assert [*bundle.names()] == names
    assert all(bundle.read(name) == name.encode() for name in names)
    for absent in ("log/a", "log/checkpoints/00000.note", "log/checkpoints/00500.not", "log/checkpoints/x", "log/z"):
        with pytest.raises(NotFound):
            bundle.read(absent)


def test_tarfile_reads_what_we_write_and_writes_what_we_read() -> None:
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as tar:
        assert tar.getnames() == ["federation.toml", "log/checkpoint"]
        assert tar.extractfile("log/checkpoint").read() == b"note"  # type: ignore[union-attr]
        info = tar.getmembers()[1]
    assert (info.mode, info.uid, info.gid, info.mtime, info.uname, info.gname) == (0o644, 0, 0, 0, "", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "found the end of the file"),
        (END, "expected federation.toml first, found no file"),
        (GOOD[:-1], "found the end of the file"),
        (GOOD[:-512], "found the end of the file"),
        (GOOD[:-1024], "found the end of the file"),
        (GOOD[:-1025], "found the end of the file"),
        (GOOD[:512], "federation.toml: expected 9 bytes, found the end of the file"),
        (GOOD + b"\0", "expected nothing after the end, found 1 bytes"),
        (GOOD + bytes(512), "expected nothing after the end, found 512 bytes"),
        (GOOD + GOOD, "expected nothing after the end"),
        (archive(AGREEMENT, end=bytes(512) + NOTE), "expected two zero blocks at the end, found one"),
        (archive(NOTE), "expected federation.toml first, found log/checkpoint"),
        (archive(AGREEMENT, NOTE, NOTE), "expected each name once, found log/checkpoint twice"),
        (archive(AGREEMENT, AGREEMENT), "expected each name once"),
        (archive(AGREEMENT, member("log/z", b""), NOTE), "names in order, found log/checkpoint after log/z"),
        (archive(AGREEMENT, NOTE, member("zoo", b"")), "expected federation.toml or a file below log/, found zoo"),
        (archive(AGREEMENT, member("log/../../etc/passwd", b"")), "expected a file's name"),
        (archive(AGREEMENT, member("/log/x", b"")), "expected a file's name"),
        (archive(AGREEMENT, member("log/./x", b"")), "expected a file's name"),
        (archive(AGREEMENT, member("log//x", b"")), "expected a file's name"),
        (archive(AGREEMENT, member("log/x/", b"")), "expected a file's name"),
        (archive(AGREEMENT, member("log/.1-1.tmp", b"")), "expected a file's name"),
        (archive(AGREEMENT, member("log/x", b"", name=b"log/\xff")), "expected a file's name"),
        (archive(AGREEMENT, member("log/x", b"", name=b"log/x\0y")), "another name"),
        (archive(AGREEMENT, member("log/x", b"", type=b"2", link=b"/etc/passwd")), "another type"),
        (archive(AGREEMENT, member("log/x", b"", type=b"1", link=b"log/y")), "another type"),
        (archive(AGREEMENT, member("log/x", b"", type=b"5")), "another type"),
        (archive(AGREEMENT, member("log/x", b"", type=b"L")), "another type"),
        (archive(AGREEMENT, member("log/x", b"", type=b"x")), "another type"),
        (archive(AGREEMENT, member("log/x", b"", type=b"\0")), "another type"),
        (archive(AGREEMENT, member("log/x", b"", link=b"y")), "another link"),
        (archive(AGREEMENT, member("log/x", b"", mode=b"0000755")), "another mode"),
        (archive(AGREEMENT, member("log/x", b"", uid=b"0001000")), "another owner"),
        (archive(AGREEMENT, member("log/x", b"", mtime=b"14000000000")), "another time"),
        (archive(AGREEMENT, member("log/x", b"", magic=b"ustar  \0")), "another magic"),
        (archive(AGREEMENT, member("log/x", b"", uname=b"root")), "another owner's and group's name"),
        (archive(AGREEMENT, member("log/x", b"", devmajor=b"0000001")), "another device"),
        (archive(AGREEMENT, member("log/x", b"", prefix=b"log")), "another prefix"),
        (archive(AGREEMENT, member("log/x", b"", padding=b"x")), "another prefix and padding"),
        (archive(AGREEMENT, member("log/x", b"", size=b"-0000000001\0")), "expected a size"),
        (archive(AGREEMENT, member("log/x", b"", size=b" 0000000000\0")), "expected a size"),
        (archive(AGREEMENT, member("log/x", b"", size=b"00000000001 ")), "expected a size"),
        (archive(AGREEMENT, member("log/x", b"", size=b"\x80" + bytes(11))), "expected a size"),
        (archive(AGREEMENT, member("log/x", b"", size=b"%011o\0" % (MAXIMUM_READ_BYTES + 1))), "expected a size"),
        (archive(AGREEMENT, member("log/x", b"", size=b"00000007777\0")), "log/x: expected 4095 bytes"),
        (archive(AGREEMENT, member("log/x", b"x")[:-1] + b"x"), "log/x: expected zeros up to the next block"),
        (archive(AGREEMENT, NOTE[:148] + b"0000000\0" + NOTE[156:]), "another checksum"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match="bundle: at byte") as refused:
        opened(data)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
