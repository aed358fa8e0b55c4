"""`strongroom witness add`: which log to cosign, by a key that its operator says or that evidence vouches for."""

from pathlib import Path

import click

from audit.log_files import LogFiles
from audit.log_key import appraised_log_key
from audit.note import VerifierKey
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from strongroom.commands.audit.files import read
from strongroom.commands.failure import Failure, failing_in_words
from strongroom.commands.witness.files import CONFIG, WitnessConfig


@click.command(short_help="Know a log, by its key.")
@CONFIG
@click.option("--log", "text", help="The log's key as its operator says it (`strongroom audit key`).")
@click.option(
    "--agreement",
    "agreement_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your own copy of federation.toml: take the key from the evidence in leaf 0 of --store.",
)
@click.option("--store", type=click.Path(path_type=Path), help="An appliance's store, or a copy of its log directory.")
@click.option("--second-key", is_flag=True, help="Let a log that is known have one more key (after a rotation).")
def command(file: Path, text: str | None, agreement_file: Path | None, store: Path | None, *, second_key: bool) -> None:
    """Cosign one more log from now on. Stop the witness first; its server reads its logs when it starts.

    By --log alone you believe whoever told you the key. By --agreement and --store the evidence of the appliance's own
    hardware vouches for it. A log that is known by another key is refused: it would be a second one of its name.
    """
    if (text is None) == (agreement_file is None) or (agreement_file is None) != (store is None):
        raise Failure("expected either --log, or --agreement together with --store")
    with failing_in_words():
        config = WitnessConfig.load(file)
        _, own = config.read_key()
        if agreement_file is not None and store is not None:
            agreement = Agreement.parse(read(agreement_file), str(agreement_file))
            key = appraised_log_key(LogFiles.find(store), agreement)
        else:
            key = VerifierKey.parse(text or "")
        with config.hold_state(own) as state:
            known = state.log(key.name)
            if known is not None and key not in known.keys and not second_key:
                raise Failure(
                    f"expected the log {printable(key.name)} by the key {known.keys[0]}, found {printable(str(key))}; "
                    "a second key is a second history, unless the log says that it was rotated (--second-key)"
                )
            state.add(key)
    click.echo(f"knows {printable(str(key))}", err=True)
