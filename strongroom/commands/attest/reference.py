"""`strongroom attest reference`: the policy that accepts given evidence, to be read, narrowed and pasted."""

import sys
from pathlib import Path

import click

from attestation.errors import AttestationError
from attestation.evidence import Evidence
from attestation.families import FAMILIES
from protocol.agreement_tees import render_tee
from strongroom.commands.attest.exit_codes import exit_code_of
from strongroom.commands.attest.files import ENDORSEMENT, FILE, read_evidence

_HEAD = "# Made from evidence that nobody has verified: check every value against its source before you agree to it."


@click.command(short_help="Print the policy that accepts EVIDENCE.")
@click.argument("evidence", nargs=-1, required=True, type=FILE)
@ENDORSEMENT
@click.option(
    "--for",
    "party",
    type=click.Choice(["appliance", "silo"]),
    default="appliance",
    show_default=True,
    help="Whose block in the agreement.",
)
def command(evidence: tuple[Path, ...], endorsements: tuple[Path, ...], party: str) -> None:
    """Print a [[tee]] table for each EVIDENCE that accepts it and little else, with a comment at every field.

    Nothing is verified. Exits with 3 if EVIDENCE is malformed, 5 if no policy can accept it (debugging), 6 if an
    endorsement is needed to know.
    """
    tables = []
    for file in evidence:
        try:
            tables.append(_table(read_evidence(file, endorsements), party))
        except AttestationError as error:
            click.echo(f"{file}: {error}", err=True)
            sys.exit(exit_code_of(error))
    click.echo("\n".join([_HEAD, *dict.fromkeys(tables)]), nl=False)


def _table(evidence: Evidence, party: str) -> str:
    values = FAMILIES[evidence.tee].reference(evidence)
    return render_tee(values, f"{party}.tee", explained=True)
