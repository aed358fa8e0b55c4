"""`strongroom audit verify-fraud`: what a fraud proof proves to somebody who was not there."""

import json
import sys
from pathlib import Path

import click

from audit.fraud import MAXIMUM_FRAUD_BYTES, Fraud, FraudProof, NoFraudError
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError
from protocol.fields import format_digest
from protocol.keys import VerifyingKey
from strongroom.commands.audit.files import read
from strongroom.commands.failure import Failure, failing_in_words

_FILE = click.Path(path_type=Path, dir_okay=False)
_OWN = "the agreement is the one in the file: compare its digest with yours, or name your copy with --agreement"


@click.command(short_help="Check a fraud proof; 0 means that the fraud is proved.")
@click.argument("file", type=_FILE)
@click.option("--agreement", "agreement_file", type=_FILE, help="Your own federation.toml: strongly recommended.")
@click.option("--log-key", "log_key", help="The key of the log that you mean, as `silo status` prints it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(file: Path, agreement_file: Path | None, log_key: str | None, *, as_json: bool) -> None:
    """Check FILE, a fraud proof, with nothing but the agreement.

    Exits with 0 if the FRAUD IS PROVED, so that the log of your federation has told two histories; with 1 if FILE
    proves nothing, or nothing about your federation's log; with 2 if it can't be read. Mind that 0 is the bad news.
    """
    with failing_in_words():
        own = None if agreement_file is None else Agreement.parse(read(agreement_file), str(agreement_file))
        key = None if log_key is None else _key(log_key)
        try:
            proof = FraudProof.parse_file(read(file, limit_bytes=MAXIMUM_FRAUD_BYTES))
        except MalformedError as error:
            raise Failure(f"{file}: {printable(str(error))}") from error
    try:
        fraud = proof.verify(own, log_key=key)
    except NoFraudError as error:
        _say_nothing(str(error), as_json)
        sys.exit(1)
    click.echo(_as_json(fraud, own) if as_json else _in_words(fraud, own))
    sys.exit(0 if fraud.identified else 1)


def _key(text: str) -> VerifyingKey:
    try:
        return VerifyingKey.parse(text)
    except MalformedError as error:
        raise Failure(f"--log-key: {error}") from error


def _say_nothing(why: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"proved": False, "why": why}, indent=2))
    else:
        click.echo(click.style("PROVES NOTHING", fg="yellow", bold=True) + f"\n{why}")


def _in_words(fraud: Fraud, own: Agreement | None) -> str:
    note = " (simulated: protects nothing)" if fraud.simulated else ""
    owners = ", ".join(fraud.owners) or "nobody"
    lines = [
        click.style(f"FRAUD PROVED{note}", fg="red", bold=True)
        if fraud.identified
        else click.style(f"PROVES NOTHING ABOUT YOUR LOG{note}", fg="yellow", bold=True),
        fraud.sentence,
        "",
        f"  log        {fraud.origin}",
        f"  agreement  {format_digest(fraud.agreement)}" + ("" if own is None else ", which is yours"),
        *(f"  log key    {key}" for key in fraud.keys),
        *(
            f"  head       {size} entries, root {root.hex()}"
            for size, root in zip(fraud.sizes, fraud.roots, strict=True)
        ),
        f"  cosigned   by {owners}",
        "",
    ]
    if not fraud.identified:
        lines.append(
            "too few owners have cosigned heads of this key to show whose log it is, and anybody may run the agreed "
            "code: compare the log key with a silo's (`silo status`) and name it with --log-key"
        )
    if own is None:
        lines.append(_OWN)
    if fraud.simulated:
        lines.append("the agreement accepts simulated evidence, which anybody can make for any key")
    return "\n".join(lines).rstrip()


def _as_json(fraud: Fraud, own: Agreement | None) -> str:
    found = {
        "proved": fraud.identified,
        "why": None if fraud.identified else "nothing in the file shows whose log it is",
        "contradiction": fraud.contradiction.value,
        "sentence": fraud.sentence,
        "simulated": fraud.simulated,
        "log": fraud.origin,
        "agreement": format_digest(fraud.agreement),
        "agreement_is_yours": own is not None,
        "log_keys": [str(key) for key in fraud.keys],
        "heads": [{"size": size, "root": root.hex()} for size, root in zip(fraud.sizes, fraud.roots, strict=True)],
        "cosigned_by": list(fraud.owners),
    }
    return json.dumps(found, indent=2)
