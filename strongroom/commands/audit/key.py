"""`strongroom audit key`: the log's key, once leaf 0's evidence vouches for it."""

import json
from pathlib import Path

import click

from audit.log_files import LogFiles
from audit.log_key import appraised_log_key
from protocol.agreement import Agreement
from strongroom.commands.audit.files import read
from strongroom.commands.failure import failing_in_words


@click.command(short_help="Print the key of STORE's log, if its evidence vouches for it.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--agreement",
    "agreement_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own copy of federation.toml.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(store: Path, agreement_file: Path, *, as_json: bool) -> None:
    """Appraise the evidence in leaf 0, and print the key that it vouches for, as witnesses and other verifiers read it.

    Exits with 2 if no evidence vouches for it. Nothing else of the log is checked: that is what `verify` is for.
    """
    with failing_in_words():
        agreement = Agreement.parse(read(agreement_file), str(agreement_file))
        key = appraised_log_key(LogFiles.find(store), agreement)
    found = {"origin": key.name, "key": str(key), "simulated": agreement.simulated}
    click.echo(json.dumps(found) if as_json else str(key))
