"""The store: named bytes that survive a crash, in a directory or in memory. It is untrusted.

Whatever is read from it, its reader authenticates or hashes; this module only promises that a name is replaced whole
or not at all, that a write which returned is durable, and that no name leads outside the directory. Names are relative
paths of `[A-Za-z0-9._-]` parts, none of which begins with a dot; a symbolic link anywhere below the root is refused.

Called by the log, the enclave (sealed blobs and state) and the gateway's spool.
"""

import itertools
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeAlias

from audit.stored_files import FileSink, FileSource, NotFound, StoreError, StoreSink, StoreSource, reported_as

__all__ = ["DirectoryStore", "MemoryStore", "NotFound", "Store", "StoreError", "StoreSink", "StoreSource"]

Names: TypeAlias = list[str]

MAXIMUM_READ_BYTES = 2**25
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,15}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_TEMPORARY = re.compile(r"\.[0-9]+-[0-9]+\.tmp", re.ASCII)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a planted FIFO must not hang us.
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Store(Protocol):
    """Named bytes; every method raises `StoreError`, and `NotFound` for a name that is not there."""

    def read(self, name: str, *, limit_bytes: int = MAXIMUM_READ_BYTES) -> bytes:
        """The whole of a resource, which must not be larger than the limit."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Create or replace, whole or not at all; durable once it returns."""
        ...

    def exists(self, name: str) -> bool: ...

    def delete(self, name: str) -> None:
        """Remove; nothing happens if it is not there. After a crash of the machine it may be there again.

        Nobody relies on a name being gone: what is deleted is debris, and a folder's fsync for each would cost seconds
        where a log's tile fills up and some hundred superseded ones go.
        """
        ...

    def list(self, prefix: str) -> Names:
        """All names that begin with `prefix` (`log/tile/`, or empty for all), sorted."""
        ...

    def open(self, name: str) -> StoreSource: ...

    def create(self, name: str, size: int) -> StoreSink:
        """Begin a file of `size` bytes, which takes the name on `commit`."""
        ...


def checked_name(name: str) -> str:
    """The name, if it is one; raises `StoreError` for anything that could lead elsewhere."""
    if not _NAME.fullmatch(name):
        raise StoreError(f"store: expected a relative name of [A-Za-z0-9._-] parts, found {name[:120]!r}")
    return name


class DirectoryStore:
    """A store in a directory, which is made if need be. Files get `file_mode` exactly, whatever the umask.

    Folders are as open as files, with `x` where files have `r`. The root itself may be a link; nothing below it may.
    """

    def __init__(self, path: str | os.PathLike[str], *, file_mode: int = 0o600) -> None:
        self._file_mode = file_mode
        self._folder_mode = file_mode | (file_mode & 0o444) >> 2
        self._counter = itertools.count()
        self._durable: set[str] = set()
        with reported_as(os.fspath(path)):
            make_durable_folder(path, self._folder_mode)
            self._above = _above(path)
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._root)

    def read(self, name: str, *, limit_bytes: int = MAXIMUM_READ_BYTES) -> bytes:
        source = self.open(name)
        try:
            if source.size() > limit_bytes:
                raise StoreError(f"store: {name}: expected at most {limit_bytes} bytes, found {source.size()}")
            data = bytearray(source.size())
            source.read_into(0, data)
            return bytes(data)
        finally:
            source.close()

    def write(self, name: str, data: bytes) -> None:
        sink = self.create(name, len(data))
        try:
            sink.write_at(0, data)
            sink.commit()
        finally:
            sink.discard()

    def exists(self, name: str) -> bool:
        try:
            self.open(name).close()
        except NotFound:
            return False
        return True

    def delete(self, name: str) -> None:
        with suppress(NotFound), reported_as(name), self._folder_of(name) as (folder, leaf):
            os.unlink(leaf, dir_fd=folder)

    def list(self, prefix: str) -> Names:
        above = prefix.rpartition("/")[0]
        if above:
            checked_name(above)
        with reported_as(prefix):
            try:
                folder = self._walk(above.split("/") if above else [])
            except FileNotFoundError:
                return []
            try:
                names = [*_names_under(folder, f"{above}/" if above else "")]
            finally:
                os.close(folder)
        return sorted(name for name in names if name.startswith(prefix))

    def open(self, name: str) -> "FileSource":
        with reported_as(name), self._folder_of(name) as (folder, leaf):
            descriptor = os.open(leaf, _READ, dir_fd=folder)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                raise StoreError(f"store: {name}: expected a regular file")
            return FileSource(name, descriptor, status.st_size)

    def create(self, name: str, size: int) -> "FileSink":
        with reported_as(name), self._folder_of(name, make=True) as (folder, leaf):
            kept = os.dup(folder)
            try:
                temporary, descriptor = self._create_temporary(kept)
            except OSError:
                os.close(kept)
                raise
            sink = FileSink(name, leaf, size, temporary, descriptor, kept)
            try:
                os.fchmod(descriptor, self._file_mode)
                os.ftruncate(descriptor, size)
            except OSError:
                sink.discard()
                raise
            return sink

    def _create_temporary(self, folder: int) -> tuple[str, int]:
        # In the same folder, so that the rename is atomic; the leading dot keeps it out of every valid name.
        while True:
            temporary = f".{os.getpid()}-{next(self._counter)}.tmp"
            with suppress(FileExistsError):
                return temporary, os.open(temporary, _CREATE, self._file_mode, dir_fd=folder)

    def settle(self) -> None:
        """Put right what a killed process left, before anything is read. Only where nobody else writes here.

        Temporary files go. A name that took its place just before the kill, this folder's own among them, may be in
        the kernel's cache only: what is built on it from now on must not outlive it in a power cut, so that all names
        are made durable first.
        """
        with reported_as(""):
            sync_folder(self._above)
            for _, _, leaves, descriptor in os.fwalk(".", dir_fd=self._root):
                for leaf in leaves:
                    if _TEMPORARY.fullmatch(leaf):
                        os.unlink(leaf, dir_fd=descriptor)
                os.fsync(descriptor)

    @contextmanager
    def _folder_of(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        *folders, leaf = checked_name(name).split("/")
        folder = self._walk(folders, make=make)
        try:
            yield folder, leaf
        finally:
            os.close(folder)

    def _walk(self, folders: Names, *, make: bool = False) -> int:
        """Open a folder below the root, one part at a time, so that no part can be a link."""
        current = os.dup(self._root)
        try:
            for depth, part in enumerate(folders, 1):
                new = make and (path := "/".join(folders[:depth])) not in self._durable
                made = new and _make_folder(part, current)
                following = os.open(part, _DIRECTORY, dir_fd=current)
                if made:
                    os.fchmod(following, self._folder_mode)
                if new:
                    # Also a folder that was there: whoever made it may have crashed before it was durable, and a
                    # power cut would then take all that is in it.
                    os.fsync(current)
                    self._durable.add(path)
                os.close(current)
                current = following
        except OSError:
            os.close(current)
            raise
        return current


class MemoryStore:
    """A store in memory: for simulations and tests."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, name: str, *, limit_bytes: int = MAXIMUM_READ_BYTES) -> bytes:
        data = self._files.get(checked_name(name))
        if data is None:
            raise NotFound(f"store: {name}: no such name")
        if len(data) > limit_bytes:
            raise StoreError(f"store: {name}: expected at most {limit_bytes} bytes, found {len(data)}")
        return data

    def write(self, name: str, data: bytes) -> None:
        with self._lock:
            self._files[checked_name(name)] = bytes(data)

    def exists(self, name: str) -> bool:
        return checked_name(name) in self._files

    def delete(self, name: str) -> None:
        with self._lock:
            self._files.pop(checked_name(name), None)

    def list(self, prefix: str) -> Names:
        with self._lock:
            return sorted(name for name in self._files if name.startswith(prefix))

    def open(self, name: str) -> "MemorySource":
        return MemorySource(name, self.read(name, limit_bytes=2**63))

    def create(self, name: str, size: int) -> "MemorySink":
        return MemorySink(self, checked_name(name), size)


class MemorySource:
    """`StoreSource` over bytes."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name = name
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(view) > len(self._data):
            raise StoreError(f"store: {self._name}: expected {len(view)} bytes at {offset}, found fewer")
        view[:] = memoryview(self._data)[offset : offset + len(view)]

    def close(self) -> None:
        """Nothing to close."""


class MemorySink:
    """`StoreSink` over a bytearray."""

    def __init__(self, store: MemoryStore, name: str, size: int) -> None:
        self._store = store
        self._name = name
        self._data = bytearray(size)
        self._done = False

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data).cast("B")
        if offset < 0 or offset + len(view) > len(self._data):
            raise StoreError(f"store: {self._name}: expected bytes within {len(self._data)}, found {offset}")
        self._data[offset : offset + len(view)] = view

    def commit(self) -> None:
        if not self._done:
            self._store.write(self._name, bytes(self._data))
        self._done = True

    def discard(self) -> None:
        self._done = True


def make_durable_folder(path: str | os.PathLike[str], mode: int) -> None:
    """Make a folder, and what it lies in, unless it is there, so that a power cut takes none of them again.

    Without this a store could be lost whole, long after silos have cosigned its log. Raises `OSError`.
    """
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_durable_folder(_above(path), 0o777)
        make_durable_folder(path, mode)
        return
    sync_folder(_above(path))


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in a folder durable; nothing where it is not ours to read. Raises `OSError`."""
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _above(path: str | os.PathLike[str]) -> str:
    return os.path.dirname(os.path.realpath(path))


def _make_folder(part: str, above: int) -> bool:
    try:
        os.mkdir(part, 0o700, dir_fd=above)
    except FileExistsError:
        return False
    return True


def _names_under(folder: int, above: str) -> Iterator[str]:
    """Every name below an open folder; links are listed (reading them is refused), never followed."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not _PART.fullmatch(name):
            continue
        if not is_folder:
            yield above + name
            continue
        inner = os.open(name, _DIRECTORY, dir_fd=folder)
        try:
            yield from _names_under(inner, f"{above}{name}/")
        finally:
            os.close(inner)
