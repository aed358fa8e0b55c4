"""`strongroom attest collect`: what this machine's TEE offers, and evidence from it."""

import json
import os
import re
import sys
from pathlib import Path

import click

from attestation.collect.choose import Request, open_tee
from attestation.collect.detect import Offer, survey
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectError
from attestation.collect.machine import this_machine
from attestation.collect.token_endpoints import TokenType
from attestation.evidence import Evidence
from attestation.report_data import REPORT_DATA_BYTES
from attestation.tee import Tee
from protocol.agreement_toml import printable
from strongroom.commands.attest.files import FILE
from strongroom.commands.failure import Failure

_NOTHING_OFFERED = 1


@click.command(short_help="Say what this machine offers, and collect evidence.")
@click.option("--report-data", metavar="HEX", help="What it shall commit to, 64 bytes.  [default: random bytes]")
@click.option("--out", type=FILE, help="Write the evidence to this file, as `attest verify` reads it.")
@click.option(
    "--endorsements",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder of what the hardware doesn't hand out: certificates, revocation lists, collateral.",
)
@click.option("--audience", metavar="TEXT", default="strongroom", show_default=True, help="Whom a token is for.")
@click.option("--maa", "issuer", metavar="URL", help="The attestation service that an Azure guest asks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    report_data: str | None,
    out: Path | None,
    endorsements: Path | None,
    audience: str,
    issuer: str | None,
    *,
    as_json: bool,
) -> None:
    """Say for each interface to a TEE whether this machine offers it, or why not, and collect from the first.

    Nothing is judged: that is what `verify` is for, elsewhere. Exits with 0 if evidence was collected, 1 if this
    machine offers none, 2 if it could not be collected.
    """
    committed, machine = _report_data(report_data), this_machine()
    offers = survey(machine)
    # Port 8080 is anybody's: it is asked where the caller names a service.
    unasked = (None, Tee.AZURE_MAA) if issuer is None else (None,)
    tee = next((offer.tee for offer in offers if offer.tee not in unasked), None)
    evidence = None
    if tee is not None:
        request = Request(
            machine=machine,
            folder=EndorsementFolder(endorsements),
            snp=(),
            audience=audience,
            token_type=TokenType.PKI,
            issuer=issuer,
        )
        evidence = _collect(tee, request, committed)
        if out is not None:
            _write(out, evidence)
    if as_json:
        click.echo(json.dumps(_summary(offers, committed, evidence), indent=2))
    else:
        click.echo("\n".join([*_table(offers), "", *_said(committed, evidence, out)]))
    if evidence is None:
        sys.exit(_NOTHING_OFFERED)


def _report_data(text: str | None) -> bytes:
    if text is None:
        return os.urandom(REPORT_DATA_BYTES)
    if not re.fullmatch(f"[0-9a-fA-F]{{{2 * REPORT_DATA_BYTES}}}", text):
        raise Failure(f"--report-data: expected {2 * REPORT_DATA_BYTES} hexadecimal digits, found {text[:80]!r}")
    return bytes.fromhex(text)


def _collect(tee: Tee, request: Request, report_data: bytes) -> Evidence:
    try:
        return open_tee(tee, request).evidence(report_data)
    except CollectError as error:
        raise Failure(f"{tee}: {error}") from error


def _write(file: Path, evidence: Evidence) -> None:
    try:
        file.write_bytes(evidence.encode() + b"\n")
    except OSError as error:
        raise Failure(f"{file}: expected a file to write to, found {error.strerror}") from error


def _table(offers: tuple[Offer, ...]) -> list[str]:
    width = max(len(offer.interface) for offer in offers)
    return [
        f"  {offer.interface:{width}}  {offer.tee or 'nothing':18}  {printable(offer.words)}".rstrip()
        for offer in offers
    ]


def _said(report_data: bytes, evidence: Evidence | None, out: Path | None) -> list[str]:
    if evidence is None:
        return ["This machine offers no evidence."]
    count = len(evidence.endorsements)
    lines = [
        f"collected {evidence.tee} evidence of {len(evidence.report)} bytes with {count} endorsements; not judged",
        f"it commits to {report_data.hex()}",
    ]
    return [*lines, f"wrote {out}" if out is not None else evidence.encode().decode("ascii")]


def _summary(offers: tuple[Offer, ...], report_data: bytes, evidence: Evidence | None) -> dict[str, object]:
    interfaces = [{"interface": offer.interface, "tee": offer.tee, "words": offer.words} for offer in offers]
    if evidence is None:
        return {"interfaces": interfaces, "tee": None, "report_data": None, "evidence": None}
    return {
        "interfaces": interfaces,
        "tee": evidence.tee,
        "report_data": report_data.hex(),
        "evidence": json.loads(evidence.encode()),
    }
