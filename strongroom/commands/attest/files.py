"""What the commands read: evidence, endorsements, a policy. A file of the user's that can't be read is exit code 2."""

from pathlib import Path

import click

from attestation.errors import ReferenceValuesError
from attestation.evidence import Evidence
from attestation.recognise import MAXIMUM_FILE_BYTES, endorsements_in, recognise
from attestation.reference_values import ReferenceValues
from protocol.agreement_toml import LIMIT_BYTES
from protocol.policy import read_policy
from strongroom.commands.failure import Failure, failing_in_words

FILE = click.Path(path_type=Path, dir_okay=False)
EVIDENCE = click.argument("evidence", type=FILE)
ENDORSEMENT = click.option(
    "--endorsement",
    "endorsements",
    multiple=True,
    type=FILE,
    help="A certificate, revocation list, collateral or key set that came with it, in any order; repeatable.",
)


def read_evidence(file: Path, endorsements: tuple[Path, ...] = ()) -> Evidence:
    """Recognise evidence and add what is in the endorsement files; raises `Failure`, `EvidenceMalformed`."""
    found = recognise(_read(file, MAXIMUM_FILE_BYTES))
    more = [
        item
        for path in endorsements
        for item in endorsements_in(_read(path, MAXIMUM_FILE_BYTES), f"endorsement {path.name}")
    ]
    return Evidence(tee=found.tee, report=found.report, endorsements=(*found.endorsements, *more))


def read_policy_file(file: Path) -> tuple[ReferenceValues, ...]:
    """The reference values of a policy file; raises `Failure`."""
    try:
        with failing_in_words():
            return read_policy(_read(file, LIMIT_BYTES), str(file))
    except ReferenceValuesError as error:
        raise Failure(f"{file}: {error}") from error


def _read(file: Path, limit_bytes: int) -> bytes:
    try:
        with file.open("rb") as stream:
            # One byte more: what is too long is refused by whoever parses it.
            return stream.read(limit_bytes + 1)
    except OSError as error:
        raise Failure(f"{file}: expected a readable file, found {error.strerror or error}") from error
