"""Stored files: read at any offset, or written at known offsets and committed whole. For sealed blobs above all.

Trusts the operating system to do what fsync promises, and nothing about what it reads back. Called by `audit.store`.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from protocol.errors import ProtocolError

_REMEDIES = {
    errno.ENOSPC: "make room on its disk and start again",
    errno.EDQUOT: "allow more room on its disk and start again",
    errno.EROFS: "mount its disk for writing and start again; the kernel may have found it damaged",
    errno.EIO: "the disk, or what leads to it, fails: see the kernel's log, and start again on one that doesn't",
    errno.EMFILE: "allow more open files (ulimit -n) and start again",
    errno.ENFILE: "allow more open files (fs.file-max) and start again",
    errno.EACCES: "give its files to the user that this runs under",
    errno.EPERM: "give its files to the user that this runs under",
}


class StoreError(ProtocolError):
    """The store did not do what was asked; the message names the resource."""


class NotFound(StoreError):
    """There is no such name in the store."""


class StoreSource(Protocol):
    """A stored file, read at any offset; safe from several threads."""

    def size(self) -> int:
        """Its size in bytes when it was opened."""
        ...

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill the whole buffer from `offset`; raises `StoreError` if the file ends before."""
        ...

    def close(self) -> None: ...


class StoreSink(Protocol):
    """A file of known size in the making; safe from several threads for ranges that do not overlap.

    Nobody sees it before `commit`, which makes it durable under its name. `discard` leaves nothing behind.
    """

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write within the size that was announced; raises `StoreError`."""
        ...

    def commit(self) -> None: ...

    def discard(self) -> None:
        """Forget it. After `commit` this does nothing."""
        ...


class FileSource:
    """`StoreSource` over a file descriptor (pread)."""

    def __init__(self, name: str, descriptor: int, size: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._size = size

    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        if offset < 0:  # preadv takes -1 for "wherever the file stands".
            raise StoreError(f"store: {self._name}: expected an offset of at least 0, found {offset}")
        done = 0
        with reported_as(self._name):
            while done < len(view):
                count = os.preadv(self._descriptor, [view[done:]], offset + done)
                if count == 0:
                    raise StoreError(f"store: {self._name}: expected {len(view)} bytes at {offset}, found {done}")
                done += count

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class FileSink:
    """`StoreSink` over a temporary file (pwrite); commit is fsync, rename, fsync of the folder."""

    def __init__(self, name: str, leaf: str, size: int, temporary: str, descriptor: int, folder: int) -> None:
        self._name = name
        self._leaf = leaf
        self._size = size
        self._temporary = temporary
        self._descriptor = descriptor
        self._folder = folder

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        if offset < 0 or offset + len(view) > self._size:
            raise StoreError(f"store: {self._name}: expected bytes within {self._size}, found {len(view)} at {offset}")
        done = 0
        with reported_as(self._name):
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], offset + done)

    def commit(self) -> None:
        with reported_as(self._name):
            # A crash before the rename leaves a temporary file and the old bytes under the name; after it, the new.
            os.fsync(self._descriptor)
            os.rename(self._temporary, self._leaf, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._temporary = ""
            # Until this returns, a power cut may still bring the old bytes back.
            os.fsync(self._folder)
        self.discard()

    def discard(self) -> None:
        if self._descriptor < 0:
            return
        if self._temporary:
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        os.close(self._descriptor)
        os.close(self._folder)
        self._descriptor = -1


@contextmanager
def reported_as(name: str) -> Iterator[None]:
    """Turn an operating system's error into a `StoreError` that names the resource."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"store: {name}: no such name") from error
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        found = "a symbolic link, or a file where a folder should be" if link else error.strerror
        remedy = remedy_for(error)
        raise StoreError(f"store: {name}: {found}{'; ' if remedy else ''}{remedy}") from error


def remedy_for(error: OSError) -> str:
    """What a person can do about an operating system's error; empty where that is not known."""
    return _REMEDIES.get(error.errno or 0, "")
