"""The files that the auditor names on the command line: what can't be read is a failure in one line."""

from pathlib import Path

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
