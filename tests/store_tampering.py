"""What an operator does to a store's files: change, cut, remove, replace, roll back; and where the files are.

Every change is a function of a file or, in `STORES`, of a store and of the copy that was taken a round before.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

Change = Callable[[Path], object]
Tampering = Callable[[Path, Path], object]


def changed(at: int) -> Change:
    """A bit, at this place (from the end where it is negative)."""

    def act(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(bytes(data))

    return act


def root_changed(file: Path) -> None:
    """A checkpoint's root is another one, well-formed."""
    origin, size, root, rest = file.read_bytes().split(b"\n", 3)
    file.write_bytes(b"\n".join((origin, size, (b"B" if root[:1] == b"A" else b"A") + root[1:], rest)))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def removed(file: Path) -> None:
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def behind_a_link(file: Path) -> None:
    """What it was is still there, where the link leads."""
    moved = file.rename(file.with_name("elsewhere"))
    file.symlink_to(moved)


def made_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def made_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


# Files


def body(store: Path, kind: str) -> Path:
    """The model or the control."""
    return next(path for path in (store / "models").iterdir() if path.name.endswith(f".{kind}.blob"))


def first_state(store: Path, before: Path) -> Path:
    """The sealed state that leaf 0 names: the only one that both hold."""
    return next(path for path in (store / "state").iterdir() if (before / "state" / path.name).exists())


def newest_state(store: Path, before: Path) -> Path:
    """The sealed state that the last published round names."""
    return next(path for path in (store / "state").iterdir() if path != first_state(store, before))


def sizes(store: Path) -> list[int]:
    """The sizes of the log's checkpoints, ascending."""
    return sorted(int(path.stem) for path in (store / "log" / "checkpoints").iterdir())


def tile(store: Path, kind: str) -> Path:
    """The newest entry bundle ("entries") or hash tile ("0")."""
    return store / "log" / "tile" / kind / "000.p" / str(sizes(store)[-1])


def note(store: Path) -> Path:
    """The newest checkpoint under its size."""
    return store / "log" / "checkpoints" / f"{sizes(store)[-1]}.note"


def checkpoint(store: Path) -> Path:
    """The newest checkpoint."""
    return store / "log" / "checkpoint"


# Stores


def of_a_file(where: Callable[[Path], Path], change: Change) -> Tampering:
    """Change one file."""
    return lambda store, before: change(where(store))


def of_a_state(where: Tampering, change: Change) -> Tampering:
    """Change one of the two sealed states."""
    return lambda store, before: change(where(store, before))


def replaced(where: Callable[[Path], Path]) -> Tampering:
    """A file's bytes are those of a round before, under the name of today."""
    return lambda store, before: where(store).write_bytes(where(before).read_bytes())


def newest_state_replaced(store: Path, before: Path) -> None:
    newest_state(store, before).write_bytes(newest_state(before, store).read_bytes())


def rolled_back(*folders: str) -> Tampering:
    """Whole folders are those of a round before."""

    def act(store: Path, before: Path) -> None:
        for folder in folders:
            shutil.rmtree(store / folder)
            shutil.copytree(before / folder, store / folder)

    return act


def log_cut_off(store: Path, before: Path) -> None:
    """All checkpoints since are gone: the log ends, validly signed, where it ended a round before."""
    for size in sizes(store):
        if size > sizes(before)[-1]:
            (store / "log" / "checkpoints" / f"{size}.note").unlink()
    checkpoint(store).write_bytes(checkpoint(before).read_bytes())
