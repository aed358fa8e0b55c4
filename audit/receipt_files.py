"""The receipts that silos hand to an auditor: a folder of any layout, read without trust in anything that lies there.

A receipt is two files side by side, as silos keep them: `<name>.entry.json`, the entry's bytes, and
`<name>.tlog-proof`. No symbolic link is followed, nothing is written, and what is no receipt is named. Names that begin
with a full stop are not looked at.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.entries import ENTRY_LIMIT_BYTES
from audit.log_files import Listed, below
from audit.proof import MAXIMUM_RECEIPT_BYTES, Receipt
from audit.store import StoreError
from protocol.agreement_toml import printable
from protocol.errors import MalformedError

ENTRY_SUFFIX: Final = ".entry.json"
PROOF_SUFFIX: Final = ".tlog-proof"
MAXIMUM_FILES: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedIn:
    """One receipt, unread: the entry's bytes and the tlog-proof's. `name` is for people, and printable."""

    name: str
    entry: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """A file that is no receipt, or half of one, and why."""

    name: str
    problem: str


def receipts_below(path: Path) -> Iterator[HandedIn | NotUnderstood]:
    """Whatever lies below a folder, in the order of its names, one receipt in memory at a time.

    Raises `StoreError` for a folder that can't be read.
    """
    listed, more = _listed(path)
    names = {file.name for file in listed if file.other is None}
    for file in listed:
        found = _found(path, file, names)
        if found is not None:
            yield found
    if more:
        yield NotUnderstood(name=_shown(path, ""), problem=f"expected at most {MAXIMUM_FILES} files, found more")


def sorted_by_log(
    files: Iterable[HandedIn | NotUnderstood], *, origin: str, others: frozenset[str], takes_the_rest: bool
) -> Iterator[HandedIn | NotUnderstood]:
    """Of receipts of several logs those of one, by the origin that their checkpoints name; unverified.

    One of the logs `takes_the_rest`: whatever is of none of the `others`, so that nothing is passed over.
    """
    for file in files:
        found = _origin_of(file)
        if found == origin or (takes_the_rest and found not in others):
            yield file


def _origin_of(file: HandedIn | NotUnderstood) -> str | None:
    if isinstance(file, NotUnderstood):
        return None
    try:
        return Receipt.parse(file.proof).checkpoint.origin
    except MalformedError:
        return None


def _listed(path: Path) -> tuple[list[Listed], bool]:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{path}: expected a readable directory, found {error.strerror}") from error
    try:
        found: list[Listed] = []
        for file in below(folder, ""):
            if any(part.startswith(".") for part in file.name.split("/")):
                continue
            if len(found) == MAXIMUM_FILES:
                return sorted(found, key=lambda item: item.name), True
            found.append(file)
        return sorted(found, key=lambda item: item.name), False
    finally:
        os.close(folder)


def _found(path: Path, file: Listed, names: set[str]) -> HandedIn | NotUnderstood | None:
    """What a file is; None for an entry, which is read with its proof."""
    shown = _shown(path, file.name)
    if file.other is not None:
        return NotUnderstood(name=shown, problem=f"expected a receipt, found {file.other}")
    if file.name.endswith(ENTRY_SUFFIX):
        stem = file.name.removesuffix(ENTRY_SUFFIX)
        if stem + PROOF_SUFFIX in names:
            return None
        return NotUnderstood(name=shown, problem=f"expected its {PROOF_SUFFIX} beside it, found none")
    if not file.name.endswith(PROOF_SUFFIX):
        return NotUnderstood(name=shown, problem=f"expected *{ENTRY_SUFFIX} or *{PROOF_SUFFIX}, found another file")
    stem = file.name.removesuffix(PROOF_SUFFIX)
    if stem + ENTRY_SUFFIX not in names:
        return NotUnderstood(name=shown, problem=f"expected its {ENTRY_SUFFIX} beside it, found none")
    try:
        entry = _read(path / (stem + ENTRY_SUFFIX), ENTRY_LIMIT_BYTES)
        proof = _read(path / file.name, MAXIMUM_RECEIPT_BYTES)
    except StoreError as error:
        return NotUnderstood(name=shown, problem=str(error))
    return HandedIn(name=_shown(path, stem), entry=entry, proof=proof)


def _read(file: Path, limit_bytes: int) -> bytes:
    try:
        # Never waits, whatever lies there by now.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", closefd=True) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StoreError("expected a file, found something else")
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise StoreError(f"expected a readable file, found {error.strerror}") from error
    if len(data) > limit_bytes:
        raise StoreError(f"expected at most {limit_bytes} bytes, found more")
    return data


def _shown(path: Path, name: str) -> str:
    return printable(str(path / name))
