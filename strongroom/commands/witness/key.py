"""`strongroom witness key`: what others need to know of a witness."""

import json
import re
from pathlib import Path

import click

from audit.note import VerifierKey
from protocol.agreement_render import render_witness
from protocol.agreement_terms import WitnessTerms
from protocol.keys import VerifyingKey
from strongroom.commands.failure import failing_in_words
from strongroom.commands.witness.files import CONFIG, WitnessConfig


@click.command(short_help="Print a witness's key, and its [[log.witness]] block.")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, *, as_json: bool) -> None:
    """Print the [[log.witness]] block to paste into an agreement; `name` in it is the agreement's to choose."""
    with failing_in_words():
        _, key = WitnessConfig.load(file).read_key()
    click.echo(json.dumps({"name": key.name, "key": str(key)}) if as_json else block_of(key), nl=as_json)


def block_of(key: VerifierKey) -> str:
    """The block, under a name made of the key's."""
    name = re.sub(r"[^a-z0-9-]+", "-", key.name.lower()).strip("-")[:63] or "witness"
    return render_witness(WitnessTerms(name=name, key_name=key.name, key=VerifyingKey(key.public)))
