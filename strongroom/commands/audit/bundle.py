"""`strongroom audit bundle`: the whole log in one file, for whoever is to verify it elsewhere."""

from pathlib import Path

import click

from audit.bundling import Bundling
from audit.log_files import LogFiles
from protocol.agreement import Agreement
from strongroom.commands.audit.files import read, replacing
from strongroom.commands.audit.progress import progress_bar
from strongroom.commands.failure import Failure, failing_in_words


@click.command(short_help="Put STORE's log into one file that verifies offline.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--agreement",
    "agreement_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The federation.toml of this log; a copy goes into the bundle.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to make.")
@click.option("--upto", type=click.IntRange(min=1), help="End at the checkpoint of this size, not at the newest.")
def command(store: Path, agreement_file: Path, out: Path, upto: int | None) -> None:
    """Put tiles, checkpoints and objects of the log in STORE, and its agreement, into one file.

    The file is a plain tar archive. `audit verify FILE` reads it where it lies, as do the other audit commands. The
    same log makes the same bytes, and an appliance may go on writing meanwhile. Nothing is verified here.
    """
    with failing_in_words():
        if out.exists():
            raise Failure(f"{out}: expected no such file, found one: choose another name, or remove it")
        agreement = Agreement.parse(read(agreement_file), str(agreement_file))
        bundling = Bundling(LogFiles.find(store), agreement, upto=upto)
        with progress_bar("bundling") as progress, replacing(out) as file:
            for piece in bundling.blocks(progress or (lambda done, total: None)):
                file.write(piece)
            size_bytes = file.tell()
    for name in bundling.left_out:
        click.echo(f"left out, as no log has such a file: {name}", err=True)
    click.echo(f"{out}: {bundling.size} entries, {size_bytes} bytes. Not verified: strongroom audit verify {out}")
