"""The files that the auditor names on the command line: what can't be read or written is a failure in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectError
from audit.note import Checkpoint
from audit.store import MAXIMUM_READ_BYTES
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from strongroom.commands.failure import Failure

MAXIMUM_ENDORSEMENTS = 512
MAXIMUM_ENDORSEMENT_BYTES = 16 * 2**20


def endorsements_in(folder: Path) -> tuple[bytes, ...]:
    """An auditor's lists and collateral, of any vendors and platforms; raises `Failure`."""
    try:
        return EndorsementFolder(folder, most=MAXIMUM_ENDORSEMENTS, most_bytes=MAXIMUM_ENDORSEMENT_BYTES).read()
    except CollectError as error:
        raise Failure(printable(str(error))) from error


def read(file: Path, *, limit_bytes: int = MAXIMUM_READ_BYTES) -> bytes:
    """A file's bytes; raises `Failure`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise Failure(f"{file}: expected a readable file, found {error.strerror or error}") from error
    if len(data) > limit_bytes:
        raise Failure(f"{file}: expected at most {limit_bytes} bytes, found more")
    return data


def checkpoint(file: Path) -> Checkpoint:
    """A signed note, unverified; raises `Failure`."""
    try:
        return Checkpoint.parse(read(file))
    except MalformedError as error:
        raise Failure(f"{file}: {printable(str(error))}") from error


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A new file that takes the name, whole and durable, if nothing is raised; what was there stays until then.

    Raises `Failure`. A kill leaves the old file, and a temporary one beside it.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as writer:
            yield writer
            writer.flush()
            os.fsync(writer.fileno())
        temporary.replace(file)
    except OSError as error:
        raise Failure(f"{file}: expected a file that can be written, found {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
