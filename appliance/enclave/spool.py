"""A complete upload as the gateway left it: opened by a checked name, and held open until nobody needs it.

Nothing about the file is trusted: it may be missing, a link, no file at all, of any size, and may change while it is
read. Whoever reads it authenticates every byte. Called by `service.py`.
"""

import os
import re
import stat
from pathlib import Path

from protocol.errors import MalformedError

_SILO = re.compile(r"[a-z0-9-]{1,63}")
_NAME = re.compile(r"[0-9a-f]{32}\.blob")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a planted FIFO must not hang us.


class SpooledBlob:
    """A `ByteSource` over an open file, which lives on when the gateway deletes its name; closed when collected."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size

    def __del__(self) -> None:
        os.close(self._descriptor)

    def size(self) -> int:
        """How many bytes there were when it was opened."""
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`, from any thread; raises `MalformedError` where that can't be."""
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise MalformedError(f"upload at {offset}: the file can't be read ({error.strerror})") from error
            if count == 0:
                raise MalformedError(f"upload at {offset}: expected {len(buffer)} bytes, found {done}")
            done += count


class EnclaveSpool:
    """The gateway's spool folder, seen from inside. `largest`: no upload of this federation has more bytes."""

    def __init__(self, folder: Path, *, largest: int) -> None:
        self._folder = folder
        self._largest = largest

    def open(self, silo: str, name: str) -> SpooledBlob:
        """Open `<spool>/<silo>/<name>`; raises `MalformedError` for anything but a regular file of possible size."""
        if not _SILO.fullmatch(silo) or not _NAME.fullmatch(name):
            raise MalformedError(f"upload: expected a silo and <32 hexadecimal digits>.blob, found {name[:80]!r}")
        try:
            descriptor = self._descend(silo, name)
        except OSError as error:
            raise MalformedError(f"upload {name}: the spool has no such file ({error.strerror})") from error
        status = os.fstat(descriptor)
        blob = SpooledBlob(descriptor, status.st_size)
        if not stat.S_ISREG(status.st_mode):
            raise MalformedError(f"upload {name}: expected a regular file, found something else")
        if status.st_size > self._largest:
            raise MalformedError(f"upload {name}: expected at most {self._largest} bytes, found {status.st_size}")
        return blob

    def _descend(self, silo: str, name: str) -> int:
        spool = os.open(self._folder, _FOLDER)
        try:
            folder = os.open(silo, _FOLDER, dir_fd=spool)
            try:
                return os.open(name, _FILE, dir_fd=folder)
            finally:
                os.close(folder)
        finally:
            os.close(spool)
