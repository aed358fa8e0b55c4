"""A log's files for reading only: in an appliance's store, a bare copy of its log directory, a bundle, or in memory.

A directory is untrusted: every name in it is listed, also those that no store would write, no symbolic link is
followed, and nothing is ever written. So is a bundle, which `audit.bundle` reads. Called by the audit.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.bundle import Bundle
from audit.resources import ROOT
from audit.store import DirectoryStore, Store, StoreError
from audit.stored_files import FileSource
from protocol.agreement_toml import printable
from protocol.errors import ProtocolError

MAXIMUM_DEPTH = 12  # A tile's path has at most 10 parts.
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARKS = ("checkpoint", "checkpoints", "tile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A name below the log (`log/…`, as it stands in the directory) and, if it is no regular file, what it is."""

    name: str
    other: str | None = None

    @property
    def shown(self) -> str:
        """The name with everything unprintable escaped."""
        return printable(self.name)


class LogFiles:
    """Reads and lists. Names begin with `log/`, wherever the log's directory lies."""

    def __init__(self, store: Store | Bundle, root: Path | None = None) -> None:
        """A store with the log below `log/` or, where `root` is given, one whose own root is the log's directory."""
        self._store = store
        self._root = root

    @property
    def agreement(self) -> bytes | None:
        """A bundle's own copy of the agreement, which proves nothing; None in a directory."""
        return self._store.agreement if isinstance(self._store, Bundle) else None

    @classmethod
    def find(cls, path: Path) -> "LogFiles":
        """The log in an appliance's store, in a directory that is a log itself or in a bundle; raises `StoreError`."""
        if path.is_file():
            return cls(_bundle(path))
        inner = path / ROOT.rstrip("/")
        try:
            names = os.listdir(path)
        except OSError as error:
            raise StoreError(
                f"{path}: expected a readable directory or a bundle, found {error.strerror or error}"
            ) from error
        if inner.name in names:
            if inner.is_symlink() or not inner.is_dir():
                raise StoreError(f"{inner}: expected a directory, found a symbolic link or a file")
            path = inner
        elif not any(mark in names for mark in _MARKS):
            raise StoreError(f"{path}: expected an appliance's store or its log directory, found no log in it")
        return cls(DirectoryStore(path), path)

    def read(self, name: str, *, limit_bytes: int) -> bytes:
        """A file's bytes; raises `StoreError`, `NotFound` if there is no such name."""
        inner = name if self._root is None else name.removeprefix(ROOT)
        return self._store.read(inner, limit_bytes=limit_bytes)

    def listed(self) -> Iterator[Listed]:
        """Everything below the log that is no folder, in no particular order; raises `StoreError`."""
        if isinstance(self._store, Bundle):
            yield from (Listed(name=name) for name in self._store.names())
            return
        if self._root is None:
            yield from (Listed(name=name) for name in self._store.list(ROOT))
            return
        try:
            folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{self._root}: expected a readable directory, found {error.strerror}") from error
        try:
            yield from below(folder, ROOT)
        finally:
            os.close(folder)


def _bundle(path: Path) -> Bundle:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{path}: expected a readable file, found {error.strerror or error}") from error
    status = os.fstat(descriptor)
    source = FileSource(path.name, descriptor, status.st_size)
    try:
        if not stat.S_ISREG(status.st_mode):
            raise StoreError("expected a regular file")
        return Bundle(source)
    except ProtocolError as error:
        source.close()
        raise StoreError(f"{path}: expected a readable directory or a bundle, found another file: {error}") from error


def below(folder: int, above: str, depth: int = 1) -> Iterator[Listed]:
    """Everything below an open folder that is no folder itself, its names behind `above`; follows no link."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield Listed(name=above + name, other=_other(entry))
            elif depth == MAXIMUM_DEPTH:
                yield Listed(name=above + name, other="a folder deeper than any of a log")
            else:
                try:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                except OSError as error:
                    yield Listed(name=above + name, other=f"a folder that can't be read ({error.strerror})")
                    continue
                try:
                    yield from below(inner, f"{above}{name}/", depth + 1)
                finally:
                    os.close(inner)


def _other(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "a symbolic link"
    return None if entry.is_file(follow_symlinks=False) else "neither file nor folder"
