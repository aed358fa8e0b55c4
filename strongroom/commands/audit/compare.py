"""`strongroom audit compare`: two accounts of one log, held against each other."""

import json
import sys
from pathlib import Path

import click

from audit.accounts import Account
from audit.compare import Comparison, Relation
from audit.compare import compare as compare_accounts
from protocol.agreement import Agreement
from protocol.fields import format_digest
from protocol.keys import VerifyingKey
from strongroom.commands.audit.accounts import account_at
from strongroom.commands.audit.files import read
from strongroom.commands.failure import Failure, failing_in_words

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_EXIT = {Relation.CONSISTENT: 0, Relation.CONTRADICTION: 1, Relation.UNKNOWN: 2}
_COLOURS = {Relation.CONSISTENT: "green", Relation.CONTRADICTION: "red", Relation.UNKNOWN: "yellow"}


@click.command(short_help="Hold A against B; write a fraud proof if they contradict.")
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@click.option(
    "--agreement", "agreement_file", type=_FILE, help="Your own federation.toml.  [default: the one in A or B]"
)
@click.option("--vouch", "vouchers", multiple=True, type=_PATH, help="A store or silo.toml that may help; repeatable.")
@click.option("--out", type=_FILE, help="Where the fraud proof goes.  [default: log.fraud]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    a: Path, b: Path, agreement_file: Path | None, vouchers: tuple[Path, ...], out: Path | None, *, as_json: bool
) -> None:
    """Hold two accounts of one log against each other, offline.

    A and B are each an appliance's store or its log directory, a checkpoint (as `silo head` prints and silos keep as
    .note), a receipt (.tlog-proof, with its .entry.json beside it) or a silo.toml. What notes and receipts lack, namely
    evidence for the log key and the tree between two heads, may come from what --vouch names.

    Exits with 0 if one extends the other, which is proved; 1 if they contradict each other, in which case a fraud proof
    is written where one can be made; 2 if it could not be told, and says what that would take.
    """
    with failing_in_words():
        one, other = account_at(a), account_at(b)
        further = [account_at(path) for path in vouchers]
        agreement = _agreement(agreement_file, (one, other, *further))
        compared = compare_accounts(one, other, agreement, further=further)
        file = None if compared.proof is None else _write(out or Path("log.fraud"), compared.proof.encode_file())
    click.echo(_as_json(compared, agreement, file) if as_json else _in_words(compared, agreement, file))
    sys.exit(_EXIT[compared.relation])


def _agreement(file: Path | None, accounts: tuple[Account, ...]) -> Agreement:
    if file is not None:
        return Agreement.parse(read(file), str(file))
    for account in accounts:
        if account.agreement is not None:
            return Agreement.parse(account.agreement, f"{account.name}: the agreement beside the log")
    raise Failure("--agreement: expected your federation.toml, as none of these brings one, found none")


def _write(file: Path, proof: bytes) -> Path:
    try:
        file.write_bytes(proof)
    except OSError as error:
        raise Failure(f"{file}: expected a file to write the proof to, found {error.strerror or error}") from error
    return file


def _in_words(compared: Comparison, agreement: Agreement, file: Path | None) -> str:
    word = compared.relation.name if compared.relation is not Relation.UNKNOWN else "COULD NOT TELL"
    note = " (simulated: protects nothing)" if agreement.simulated else ""
    lines = [click.style(f"{word}{note}", fg=_COLOURS[compared.relation], bold=True), compared.sentence]
    if file is not None:
        lines.append(f"wrote {file}; whoever has the agreement checks it with: strongroom audit verify-fraud {file}")
    if compared.fraud is not None and not compared.fraud.identified:
        lines.append(
            "too few owners have cosigned heads of this log key to show a stranger that it is your federation's: he "
            f"needs your word, or a silo's, for --log-key {compared.fraud.keys[0]}"
        )
    return "\n".join(lines)


def _as_json(compared: Comparison, agreement: Agreement, file: Path | None) -> str:
    fraud = compared.fraud
    keys: tuple[VerifyingKey, ...] = () if fraud is None else fraud.keys
    found = {
        "relation": compared.relation.value,
        "simulated": agreement.simulated,
        "agreement": format_digest(agreement.digest),
        "sentence": compared.sentence,
        "sizes": compared.sizes,
        "proof": None if file is None else str(file),
        "contradiction": None if fraud is None else fraud.contradiction.value,
        "log_keys": [str(key) for key in keys],
        "identified": None if fraud is None else fraud.identified,
    }
    return json.dumps(found, indent=2)
