"""A disk as POSIX promises it and no better: what was synced survives a power cut, anything else may or may not.

`ModelledOs` takes the place of `os` in the modules that write (`audit.store`, `audit.stored_files`). A file has cached
bytes and durable ones; so has a folder names. `fsync` of a file makes its bytes durable and not its name; `fsync` of a
folder makes its names durable and not their bytes. After a failed `fsync` the pages are clean and were never written
(as in Linux since 2018: the next `fsync` succeeds and means nothing).

`Disk.cut` is what remains: see `Outcome`. The model is held against the real kernel in `faults/test_modelled_disk.py`.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from types import SimpleNamespace
from typing import TypeAlias

Names: TypeAlias = "dict[str, File | Folder]"


class Stopped(BaseException):
    """The process is gone: nothing may catch this."""


class Outcome(Enum):
    """What is left after a stop."""

    KILLED = "killed"
    """The process alone: the kernel still has everything."""
    SYNCED = "synced"
    """The power: what was not synced never happened."""
    NAMES = "names"
    """The power: all names made it, unsynced bytes did not (files of the right size, full of zeros)."""
    EMPTY = "empty"
    """The power: all names made it, and not even the sizes of unsynced files did."""
    TORN = "torn"
    """The power: some names, some bytes, some of them in part, in any order."""


@dataclass(frozen=True)
class Call:
    """One call of a process: what (`write`, `rename`, …), on which path, and whether it changes or syncs anything."""

    kind: str
    path: str
    changes: bool = True


@dataclass
class File:
    cached: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        """Write at an offset, or (None) set the size."""
        _apply(self.cached, offset, data)
        self.unsynced.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _apply(self.durable, offset, data)
        self.unsynced.clear()

    def fail_sync(self) -> None:
        """The pages are marked clean, and their bytes are in the cache only."""
        self.unsynced.clear()

    def left(self, outcome: Outcome, rng: Random) -> "File":
        data = bytearray(self.durable)
        for offset, written in self.unsynced:
            if outcome is Outcome.NAMES and written is None:
                _apply(data, offset, None)
            elif outcome is Outcome.TORN and rng.random() < 0.6:
                cut = None if written is None else written[: rng.randint(0, len(written))]
                _apply(data, offset, cut)
        return File(cached=bytearray(data), durable=data)


@dataclass
class Folder:
    cached: Names = field(default_factory=dict)
    durable: Names = field(default_factory=dict)
    unsynced: list[Callable[[Names], object]] = field(default_factory=list)

    def change(self, change: Callable[[Names], object]) -> None:
        change(self.cached)
        self.unsynced.append(change)

    def sync(self) -> None:
        for change in self.unsynced:
            change(self.durable)
        self.unsynced.clear()

    def fail_sync(self) -> None:
        """Names are journalled: a failed sync leaves them for the next one, or the file system goes read-only."""

    def left(self, outcome: Outcome, rng: Random) -> "Folder":
        names = dict(self.durable)
        for change in self.unsynced:
            if outcome in (Outcome.NAMES, Outcome.EMPTY) or (outcome is Outcome.TORN and rng.random() < 0.6):
                change(names)
        left = {name: node.left(outcome, rng) for name, node in names.items()}
        return Folder(cached=left, durable=dict(left))


Plan: TypeAlias = Callable[[int, Call], "OSError | None"]
"""Asked before each call, with its number from 1; raises `Stopped`, or returns the error that the call ends with."""


class Disk:
    """One machine's disk, and the one process that writes to it."""

    def __init__(self) -> None:
        self.root = Folder()
        self.life = 0
        self.calls: list[Call] = []
        self.plan: Plan | None = None
        self._stopped = False

    @property
    def changes(self) -> list[Call]:
        """The calls that a stop makes a difference to."""
        return [call for call in self.calls if call.changes]

    def enter(self, life: int, call: Call) -> None:
        if self._stopped or life != self.life:
            raise Stopped  # Whoever is dead cleans nothing up.
        self.calls.append(call)
        if self.plan is not None:
            try:
                error = self.plan(len(self.calls), call)
            except Stopped:
                self._stopped = True
                raise
            if error is not None:
                raise error

    def cut(self, outcome: Outcome, seed: int = 0) -> None:
        """The process is gone, and maybe the power; what is left is what a new process finds."""
        if outcome is not Outcome.KILLED:
            self.root = self.root.left(outcome, Random(seed))
        self.life += 1
        self.plan = None
        self._stopped = False


@dataclass(frozen=True)
class _Descriptor:
    disk: Disk
    life: int
    node: File | Folder
    path: str


class _Entry:
    def __init__(self, name: str, node: File | Folder) -> None:
        self.name = name
        self._node = node

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return isinstance(self._node, Folder)


class ModelledOs:
    """The part of `os` that a `DirectoryStore` uses, over disks that are mounted under `/<name>`."""

    O_RDONLY, O_RDWR, O_CREAT, O_EXCL = os.O_RDONLY, os.O_RDWR, os.O_CREAT, os.O_EXCL
    O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_CLOEXEC = os.O_DIRECTORY, os.O_NOFOLLOW, os.O_NONBLOCK, os.O_CLOEXEC
    PathLike, fspath, path = os.PathLike, staticmethod(os.fspath), os.path

    def __init__(self, disks: dict[str, Disk]) -> None:
        self._disks = disks
        self._open: dict[int, _Descriptor] = {}
        self._next = 1000

    def getpid(self) -> int:
        return 1

    # Descriptors

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        folder, leaf, disk, life, shown = self._place(path, dir_fd)
        new = bool(flags & os.O_CREAT)
        disk.enter(life, Call("create" if new else "open", shown, changes=new))
        node = folder.cached.get(leaf) if leaf else folder
        if new:
            if node is not None:
                raise _error(errno.EEXIST, shown)
            node = File()
            folder.change(_link(leaf, node))
        if node is None:
            raise _error(errno.ENOENT, shown)
        if flags & os.O_DIRECTORY and not isinstance(node, Folder):
            raise _error(errno.ENOTDIR, shown)
        return self._describe(_Descriptor(disk, life, node, shown))

    def dup(self, descriptor: int) -> int:
        found = self._open[descriptor]
        found.disk.enter(found.life, Call("dup", found.path, changes=False))
        return self._describe(found)

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]

    def fstat(self, descriptor: int) -> SimpleNamespace:
        node = self._open[descriptor].node
        if isinstance(node, File):
            return SimpleNamespace(st_mode=stat.S_IFREG, st_size=len(node.cached))
        return SimpleNamespace(st_mode=stat.S_IFDIR, st_size=0)

    # Files

    def preadv(self, descriptor: int, buffers: list[memoryview], offset: int) -> int:
        _, node = self._file("read", descriptor, changes=False)
        data = node.cached[offset : offset + len(buffers[0])]
        buffers[0][: len(data)] = data
        return len(data)

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        found = self._open[descriptor]
        file = found.node
        assert isinstance(file, File)
        # A write is two calls: a stop at the second leaves half of it.
        half = len(data) // 2
        found.disk.enter(found.life, Call("write", found.path))
        if half:
            file.change(offset, bytes(data[:half]))
            found.disk.enter(found.life, Call("write-half", found.path))
        file.change(offset + half, bytes(data[half:]))
        return len(data)

    def ftruncate(self, descriptor: int, size: int) -> None:
        _, node = self._file("truncate", descriptor)
        node.change(size, None)

    def fchmod(self, descriptor: int, mode: int) -> None:
        found = self._open[descriptor]
        found.disk.enter(found.life, Call("chmod", found.path))

    def fsync(self, descriptor: int) -> None:
        found = self._open[descriptor]
        kind = "sync-file" if isinstance(found.node, File) else "sync-folder"
        try:
            found.disk.enter(found.life, Call(kind, found.path))
        except OSError:
            found.node.fail_sync()
            raise
        found.node.sync()

    # Names

    def mkdir(self, name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        folder, leaf, disk, life, shown = self._place(name, dir_fd)
        if leaf in folder.cached:
            raise _error(errno.EEXIST, shown)
        disk.enter(life, Call("mkdir", shown))
        folder.change(_link(leaf, Folder()))

    def rename(self, source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        folder, leaf, disk, life, shown = self._place(target, dst_dir_fd)
        disk.enter(life, Call("rename", shown))
        node = folder.cached.get(source)
        if node is None:
            raise _error(errno.ENOENT, shown)
        if isinstance(folder.cached.get(leaf), Folder):
            raise _error(errno.EISDIR, shown)

        def move(names: Names) -> None:
            if names.get(source) is node:
                del names[source]
            names[leaf] = node

        folder.change(move)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        folder, leaf, disk, life, shown = self._place(name, dir_fd)
        disk.enter(life, Call("unlink", shown))
        if leaf not in folder.cached:
            raise _error(errno.ENOENT, shown)
        if isinstance(folder.cached[leaf], Folder):
            raise _error(errno.EISDIR, shown)
        folder.change(lambda names: names.pop(leaf, None))

    @contextmanager
    def scandir(self, descriptor: int) -> Iterator[list[_Entry]]:
        found = self._open[descriptor]
        assert isinstance(found.node, Folder)
        found.disk.enter(found.life, Call("list", found.path, changes=False))
        yield [_Entry(name, node) for name, node in found.node.cached.items()]

    def fwalk(self, top: str, *, dir_fd: int) -> Iterator[tuple[str, list[str], list[str], int]]:
        found = self._open[dir_fd]
        yield from self._walk(top, found)

    def _walk(self, path: str, found: _Descriptor) -> Iterator[tuple[str, list[str], list[str], int]]:
        assert isinstance(found.node, Folder)
        inner = {name: node for name, node in found.node.cached.items() if isinstance(node, Folder)}
        leaves = [name for name in found.node.cached if name not in inner]
        descriptor = self._describe(found)
        yield path, [*inner], leaves, descriptor
        self.close(descriptor)
        for name, node in inner.items():
            yield from self._walk(f"{path}/{name}", _Descriptor(found.disk, found.life, node, f"{found.path}/{name}"))

    # Within

    def _place(self, path: str, above: int | None) -> tuple[Folder, str, Disk, int, str]:
        """The folder, the last part, the disk, the life of the process that asks, and the path to show."""
        if above is not None:
            found = self._open[above]
            assert isinstance(found.node, Folder)
            return found.node, path, found.disk, found.life, f"{found.path}/{path}".removeprefix("/")
        _, name, *parts = os.fspath(path).split("/")
        disk = self._disks[name]
        folder = disk.root
        for part in parts[:-1]:
            inner = folder.cached.get(part)
            if not isinstance(inner, Folder):
                raise _error(errno.ENOENT, path)
            folder = inner
        return folder, parts[-1] if parts else "", disk, disk.life, "/".join(parts)

    def _file(self, kind: str, descriptor: int, *, changes: bool = True) -> tuple[_Descriptor, File]:
        found = self._open[descriptor]
        found.disk.enter(found.life, Call(kind, found.path, changes=changes))
        assert isinstance(found.node, File)
        return found, found.node

    def _describe(self, descriptor: _Descriptor) -> int:
        self._next += 1
        self._open[self._next] = descriptor
        return self._next


def _link(name: str, node: File | Folder) -> Callable[[Names], object]:
    return lambda names: names.update({name: node})


def _apply(data: bytearray, offset: int, written: bytes | None) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    if written is None:
        del data[offset:]
    else:
        data[offset : offset + len(written)] = written


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
