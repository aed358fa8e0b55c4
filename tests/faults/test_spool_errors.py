"""The gateway's spool on a disk that is full, fails, is read-only, or where no descriptors are left.

The upload ends with an error, and what had come is kept: once the error is lifted it goes on at that byte, and the
enclave reads the bytes that the silo sent. Nothing here has to outlive a power cut: the key to it does not either.
"""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.gateway import spool as gateway_spool
from appliance.gateway.spool import Spool
from protocol.errors import RefusalCode, RefusedError

DATA = bytes(range(100))
UPLOAD = b"\x11" * 16


class FailingOs:
    """`os` whose n-th call of one name fails, after `written` bytes where it is a write."""

    def __init__(self, call: str, number: int, code: int, written: int = 0) -> None:
        self._call, self._left, self._code, self._written = call, number, code, written

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name != self._call:
            return real

        def failing(*arguments: object, **named: object) -> object:
            self._left -= 1
            if self._left == 0:
                if name == "write" and self._written:
                    self._left = 1  # This time a part of it, next time the error.
                    short, self._written = self._written, 0
                    return os.write(arguments[0], arguments[1][:short])  # type: ignore[arg-type,index]
                raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **named)

        return failing


def send(spool: Spool) -> str:
    """As the gateway does: from where it stopped, in pieces."""
    offset = spool.offset("north", UPLOAD)
    with spool.resume("north", UPLOAD, offset=offset, size=len(DATA)) as upload:
        for start in range(offset, len(DATA), 30):
            upload.write(DATA[start : start + 30])
        return upload.complete()


@pytest.mark.parametrize(
    ("call", "number", "code", "kept"),
    [
        ("open", 1, errno.EMFILE, 0),
        ("open", 1, errno.EROFS, 0),
        ("write", 1, errno.EIO, 0),
        ("write", 3, errno.EIO, 67),
        ("write", 3, errno.EROFS, 67),
        ("rename", 1, errno.EROFS, 100),
        ("rename", 1, errno.EIO, 100),
    ],
)
def test_an_upload_goes_on_once_the_error_is_lifted(
    call: str, number: int, code: int, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, smallest=4, largest=100)
    monkeypatch.setattr(gateway_spool, "os", FailingOs(call, number, code, written=7 if number == 3 else 0))
    with pytest.raises(OSError, match=os.strerror(code)):
        send(spool)
    monkeypatch.undo()
    assert spool.offset("north", UPLOAD) == kept
    assert (tmp_path / "north" / send(spool)).read_bytes() == DATA


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_in_the_middle_is_a_refusal_in_words(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, smallest=4, largest=100)
    monkeypatch.setattr(gateway_spool, "os", FailingOs("write", 2, code, written=11))
    with pytest.raises(
        RefusedError, match="full disk; try again once the appliance's operator has made room"
    ) as caught:
        send(spool)
    assert caught.value.refusal.code is RefusalCode.BUSY
    monkeypatch.undo()
    assert spool.offset("north", UPLOAD) == 41
    assert (tmp_path / "north" / send(spool)).read_bytes() == DATA


def test_where_there_is_no_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, smallest=4, largest=100)
    full = SimpleNamespace(f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(RefusedError, match="a full disk"):
        send(spool)
    assert spool.offset("north", UPLOAD) == 0
