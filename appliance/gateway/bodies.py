"""The sealed bodies that the enclave wrote (models and control variates), read for whoever downloads them.

They are sealed, so that it doesn't matter to secrecy who gets them; a silo is told their names in an announcement.
Called by the federation port.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.gateway.places import Places
from protocol.errors import RefusalCode, RefusedError, refuse
from protocol.wire.methods import BULK_MESSAGE_BYTES

_DOWNLOADS_A_SILO = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Bodies:
    """The folder of sealed bodies: `<name>.blob`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = Places(_DOWNLOADS_A_SILO, "downloads")

    @contextmanager
    def open(self, silo: str, name: str, offset: int) -> Iterator[Iterator[bytes]]:
        """The bytes from `offset` on, in messages of 1 MiB, read as they are asked for; raises `RefusedError`."""
        if not _NAME.fullmatch(name):
            raise _absent(name)
        with self._places.take(silo):
            try:
                descriptor = os.open(self._folder / f"{name}.blob", _READ)
            except FileNotFoundError as error:
                raise _absent(name) from error
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise _absent(name)
                if offset > status.st_size:
                    raise refuse(
                        RefusalCode.WRONG_SIZE,
                        expected=f"an offset of at most {status.st_size}, where {name} ends",
                        found=str(offset),
                        remedy="download it from the start",
                    )
                yield _pieces(descriptor, offset, status.st_size)
            finally:
                os.close(descriptor)


def _pieces(descriptor: int, offset: int, end: int) -> Iterator[bytes]:
    while offset < end:
        piece = os.pread(descriptor, min(BULK_MESSAGE_BYTES, end - offset), offset)
        if not piece:
            return
        yield piece
        offset += len(piece)


def _absent(name: str) -> RefusedError:
    return refuse(
        RefusalCode.WRONG_ROUND,
        expected="a body of the round that is announced now",
        found=f"{name[:80]!r}, which is not here",
        remedy="wait for the next announcement",
    )
