"""`strongroom audit report`: the verdict and the log's story as one HTML page."""

import sys
import time
from importlib.metadata import version
from pathlib import Path

import click

from audit.log_files import LogFiles
from audit.page.render import render
from audit.story import Story
from audit.verify import verify
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from strongroom.commands.audit.files import checkpoint, read
from strongroom.commands.audit.progress import progress_bar
from strongroom.commands.failure import Failure, failing_in_words


@click.command(short_help="Verify STORE's log, and write what it tells as one HTML page.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--agreement",
    "agreement_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own copy of federation.toml.",
)
@click.option(
    "--head",
    "kept_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A checkpoint of this log that a silo or you have kept; repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("audit-report.html"),
    show_default=True,
    help="Where the page goes.",
)
def command(store: Path, agreement_file: Path, kept_files: tuple[Path, ...], out: Path) -> None:
    """Verify the log in STORE as `audit verify` does, and write a page for people who read no logs.

    The page needs no network and has no script. Exits as `audit verify` does, with the page written in any case.
    """
    with failing_in_words(), progress_bar() as progress:
        agreement = Agreement.parse(read(agreement_file), str(agreement_file))
        kept = {printable(str(file)): checkpoint(file) for file in kept_files}
        story = Story(agreement)
        report = verify(LogFiles.find(store), agreement, kept=kept, progress=progress, told=story.take)
        page = render(report, story, agreement, verified_at=int(time.time()), version=version("strongroom"))
    try:
        out.write_bytes(page)
    except OSError as error:
        raise Failure(f"{out}: expected a writable file, found {error.strerror or error}") from error
    click.echo(f"{report.line}: wrote {out} ({len(page)} bytes)")
    sys.exit(report.exit_code)
