"""`strongroom audit check-receipt`: a stranger's check of one entry, with nothing but the agreement and a log key."""

import json
import sys
from pathlib import Path

import click

from audit.agreed import log_key_of, quorum_of
from audit.log_keys import LogKeys
from audit.merkle import ProofError
from audit.note import VerifierKey
from audit.proof import Included, Receipt
from audit.quorum import Quorum, Tally
from audit.vouching import NotVouchedError
from protocol.agreement import Agreement
from protocol.agreement_toml import printable
from protocol.errors import MalformedError, SignatureError
from protocol.keys import VerifyingKey
from strongroom.commands.audit.accounts import account_at
from strongroom.commands.audit.files import read
from strongroom.commands.failure import Failure, failing_in_words

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Check that ENTRY is in the log, by its RECEIPT.")
@click.argument("receipt_file", metavar="RECEIPT", type=_FILE)
@click.argument("entry_file", metavar="ENTRY", type=_FILE)
@click.option("--agreement", "agreement_file", type=_FILE, required=True, help="Your own copy of federation.toml.")
@click.option("--log-key", help="The log's key, as `silo status` prints it, or as a C2SP vkey.")
@click.option("--vouch", type=click.Path(path_type=Path), help="In its place: a store or silo.toml with its evidence.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    receipt_file: Path,
    entry_file: Path,
    agreement_file: Path,
    log_key: str | None,
    vouch: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check that the bytes in ENTRY are in the log of the agreement, by RECEIPT (C2SP tlog-proof).

    Exits with 0 if they are and a quorum of owners has cosigned the checkpoint; 1 if not; 3 if they are, and the
    checkpoint has the log's own signature but too few cosignatures; 2 if something could not be read.
    """
    with failing_in_words():
        agreement = Agreement.parse(read(agreement_file), str(agreement_file))
        keys, log_keys = _keys(agreement, log_key, vouch)
        try:
            receipt, entry = Receipt.parse(read(receipt_file)), read(entry_file)
        except MalformedError as error:
            raise Failure(f"{receipt_file}: {printable(str(error))}") from error
    quorum = quorum_of(agreement)
    problem = ""
    for key in keys:
        try:
            if log_keys is not None:
                # A key that was retired below this size vouches for nothing.
                log_keys.signer(receipt.checkpoint)
            included, votes = receipt.verify(entry, log_key=key, quorum=None), quorum.count(receipt.checkpoint, key)
        except (SignatureError, ProofError) as error:
            problem = problem or printable(str(error))
            continue
        click.echo(_as_json(included, votes, quorum) if as_json else _in_words(included, votes, quorum, agreement))
        sys.exit(0 if quorum.is_met(votes) else 3)
    click.echo(json.dumps({"included": False, "why": problem}, indent=2) if as_json else f"NOT SHOWN\n{problem}")
    sys.exit(1)


def _keys(agreement: Agreement, log_key: str | None, vouch: Path | None) -> tuple[list[VerifierKey], LogKeys | None]:
    """The keys to try and, where they are known, all that the log has had."""
    if (log_key is None) == (vouch is None):
        raise Failure("expected one of --log-key and --vouch, found " + ("none" if log_key is None else "both"))
    if log_key is not None:
        return [_log_key(agreement, log_key)], None
    if vouch is None:
        return [], None
    account, keys, problems = account_at(vouch), [], []
    for voucher in account.vouchers:
        try:
            keys.append(log_key_of(agreement, voucher.appraise(agreement)))
        except NotVouchedError as error:
            problems.append(str(error))
    if not keys:
        why = printable("; ".join((*problems, *account.problems))) or "it holds no evidence"
        raise Failure(f"--vouch: expected evidence that the agreement accepts for the log key, found none ({why})")
    return keys, account.log_keys


def _log_key(agreement: Agreement, text: str) -> VerifierKey:
    try:
        if text.startswith("ed25519:"):
            return log_key_of(agreement, VerifyingKey.parse(text))
        key = VerifierKey.parse(text)
    except MalformedError as error:
        raise Failure(f"--log-key: {error}") from error
    if key != log_key_of(agreement, VerifyingKey(key.public)):
        raise Failure(f"--log-key: expected a log key of {agreement.log.origin}, found {key.name}")
    return key


def _in_words(included: Included, votes: Tally, quorum: Quorum, agreement: Agreement) -> str:
    note = " (simulated: protects nothing)" if agreement.simulated else ""
    complete = quorum.is_met(votes)
    lines = [
        click.style(f"INCLUDED{note}", fg="green" if complete else "yellow", bold=True),
        f"entry {included.index} of the log {included.origin}, under its head of {included.size} entries",
        f"cosigned by {votes}" + ("" if complete else ", which is no quorum: this is the log's word alone"),
    ]
    return "\n".join(lines)


def _as_json(included: Included, votes: Tally, quorum: Quorum) -> str:
    found = {
        "included": True,
        "log": included.origin,
        "index": included.index,
        "size": included.size,
        "root": included.root.hex(),
        "cosigned_by": [vote.owner for vote in votes.owners],
        "witnesses": [vote.owner for vote in votes.witnesses],
        "quorum": quorum.is_met(votes),
    }
    return json.dumps(found, indent=2)
