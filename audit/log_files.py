"""A log's files for reading only: in an appliance's store, in a bare copy of its log directory, or in memory.

The directory is untrusted: every name in it is listed, also those that no store would write, no symbolic link is
followed, and nothing is ever written. Called by the audit.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.resources import ROOT
from audit.store import DirectoryStore, Store, StoreError
from protocol.agreement_toml import printable

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

    def __init__(self, store: Store, root: Path | None = None) -> None:
        """A store with the log below `log/` or, where `root` is given, one whose own root is the log's directory."""
        self._store = store
        self._root = root

    @classmethod
    def find(cls, path: Path) -> "LogFiles":
        """The log in an appliance's store, or in a directory that is a log itself; raises `StoreError`."""
        inner = path / ROOT.rstrip("/")
        try:
            names = os.listdir(path)
        except OSError as error:
            raise StoreError(f"{path}: expected a readable directory, found {error.strerror or error}") from error
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


def below(folder: int, above: str, depth: int = 1) -> Iterator[Listed]:
    """Everything below an open folder that is no folder itself, its names behind `above`; follows no link."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False), _other(entry)) for entry in entries]
    for name, is_folder, other in found:
        if not is_folder:
            yield Listed(name=above + name, other=other)
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
