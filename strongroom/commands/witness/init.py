"""`strongroom witness init`: a new key, settings and an empty state, once."""

import os
from pathlib import Path

import click

from audit.note import VerifierKey
from audit.store import DirectoryStore, make_durable_folder
from audit.witnessing.state import WitnessState
from protocol.verifier_keys import key_name
from silo_client.identity import create_identity
from strongroom.commands.failure import Failure, failing_in_words
from strongroom.commands.witness.files import parse_listen, render_settings
from strongroom.commands.witness.key import block_of


@click.command(short_help="Make a witness's key, settings and state.")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder to write to.")
@click.option("--listen", default="127.0.0.1:7300", show_default=True, help="Where it will be reached, host:port.")
def command(name: str, out: Path, listen: str) -> None:
    """Begin a witness, and print its [[log.witness]] block. NAME is its key's, such as witness.example.org/w1.

    The key file is readable by its owner only; nothing that exists is overwritten.
    """
    if parse_listen(listen) is None:
        raise Failure(f'--listen: expected "host:port" with a port from 0 to 65535, found {listen!r}')
    settings = out / "witness.toml"
    try:
        make_durable_folder(out, 0o777)
        if settings.exists():
            raise Failure(f"{settings}: expected no such file, found one; a witness begins once")
        with failing_in_words():
            # Before anything is written.
            key_name(name)
            key = VerifierKey.of_cosigner(name, create_identity(out / "witness.key", os.urandom(32)).public)
            WitnessState.create(DirectoryStore(out / "state"), key)
        settings.write_text(render_settings(name=name, listen=listen))
    except OSError as error:
        raise Failure(f"{out}: expected a writable folder, found {error.strerror or error}") from error
    click.echo(f"wrote {settings}, {out / 'witness.key'} (keep it secret) and {out / 'state'}", err=True)
    click.echo(block_of(key), nl=False)
