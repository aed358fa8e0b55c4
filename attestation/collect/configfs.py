"""configfs-tsm on its real path. Any directory that behaves like it will do, which is how it is tested."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TSM_REPORTS: Final = Path("/sys/kernel/config/tsm/report")
_PIECE_BYTES = 64 * 1024
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class ConfigfsInstance:
    """The attributes of one request: plain files to us."""

    path: Path

    def has(self, attribute: str) -> bool:
        """Whether the file is there."""
        return os.path.lexists(self.path / attribute)

    def write(self, attribute: str, data: bytes) -> None:
        """One write, whole; a binary attribute is taken over at the close. Raises `OSError`."""
        descriptor = os.open(self.path / attribute, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def read(self, attribute: str, limit_bytes: int) -> bytes:
        """To the end, or one byte past the limit. Raises `OSError`."""
        descriptor = os.open(self.path / attribute, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = b""
            while len(data) <= limit_bytes:
                piece = os.read(descriptor, min(_PIECE_BYTES, limit_bytes + 1 - len(data)))
                if not piece:
                    break
                data += piece
            return data
        finally:
            os.close(descriptor)


class ConfigfsReports:
    """`/sys/kernel/config/tsm/report`."""

    def __init__(self, path: Path, random: Callable[[int], bytes]) -> None:
        self._path = path
        self._random = random

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    def obstacle(self) -> str | None:
        """Why no directory can be made there, as far as looking tells."""
        if not os.path.isdir(self._path):
            return "no such folder: the kernel is older than 6.7, has no such support, or configfs isn't mounted"
        if not os.access(self._path, os.W_OK | os.X_OK):
            return f"user {os.geteuid()} may make no request there (root may)"
        return None

    @contextmanager
    def request(self) -> Iterator[ConfigfsInstance]:
        """A directory under a name that nobody guesses."""
        path = self._path / f"strongroom-{self._random(_NAME_BYTES).hex()}"
        os.mkdir(path, mode=0o700)
        try:
            yield ConfigfsInstance(path)
        finally:
            # A directory that stays behind is an empty request in the kernel's memory, and no reason to fail.
            with suppress(OSError):
                os.rmdir(path)
