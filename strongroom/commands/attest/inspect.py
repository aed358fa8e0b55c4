"""`strongroom attest inspect`: what evidence says of itself."""

import json
import sys
from pathlib import Path

import click

from attestation.claims import as_json
from attestation.errors import AttestationError
from attestation.families import FAMILIES
from strongroom.commands.attest.exit_codes import exit_code_of
from strongroom.commands.attest.files import EVIDENCE, read_evidence
from strongroom.commands.attest.table import claim_lines

_NOT_JUDGED = "not judged: nothing here was verified, and anybody can write such bytes"


@click.command(short_help="Print what EVIDENCE says, without judging it.")
@EVIDENCE
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def command(evidence: Path, *, as_json_: bool) -> None:
    """Print every field of EVIDENCE in words. Nothing is verified: that is what `verify` is for.

    Exits with 3 if it is malformed.
    """
    try:
        found = read_evidence(evidence)
        claims = FAMILIES[found.tee].describe(found.report)
    except AttestationError as error:
        click.echo(f"{evidence}: {error}", err=True)
        sys.exit(exit_code_of(error))
    if as_json_:
        click.echo(json.dumps({"tee": found.tee, "verified": False, "claims": as_json(claims)}, indent=2))
        return
    click.echo(f"{found.tee} evidence, {len(found.report)} bytes ({_NOT_JUDGED})")
    click.echo("\n".join(claim_lines(claims)))
