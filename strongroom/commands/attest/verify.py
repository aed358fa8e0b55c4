"""`strongroom attest verify`: a verdict on evidence, by a policy."""

import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from attestation.appraisal import judge
from attestation.check import Check
from attestation.claims import Claims, Json, as_json
from attestation.errors import AttestationError
from attestation.evidence import Evidence
from attestation.families import FAMILIES
from attestation.reference_values import ReferenceValues
from attestation.tee import Tee
from attestation.verdict import Verdict
from strongroom.commands.attest.exit_codes import ACCEPTED, ACCEPTED_WITH_WARNINGS, outcome_of
from strongroom.commands.attest.files import ENDORSEMENT, EVIDENCE, FILE, read_evidence, read_policy_file
from strongroom.commands.attest.table import check_lines, claim_lines
from strongroom.commands.failure import Failure

_PROTECTS_NOTHING = "simulated: protects nothing"
_UNBOUND = "what it commits to was not compared (--report-data): it may be somebody else's, shown again"


@click.command(short_help="Judge EVIDENCE by a policy.")
@EVIDENCE
@ENDORSEMENT
@click.option("--policy", required=True, type=FILE, help="Reference values, as `attest reference` prints them.")
@click.option("--report-data", metavar="HEX", help="What it must commit to.  [default: not compared]")
@click.option(
    "--at", metavar="TIME", help="Judge as of then: 2026-11-24T12:00:00Z, or seconds since 1970.  [default: now]"
)
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def command(
    evidence: Path,
    endorsements: tuple[Path, ...],
    policy: Path,
    report_data: str | None,
    at: str | None,
    *,
    as_json_: bool,
) -> None:
    """Judge EVIDENCE, whose format is recognised from its bytes, and print every check with found and expected.

    Exits with 0 if it is accepted, 3 if it is malformed, 4 if it is not authentic (signature, chain, revocation,
    dates), 5 if the policy refuses it, 6 if it could not be checked because an endorsement is missing.
    """
    references, expected, now = read_policy_file(policy), _report_data(report_data), _time(at)
    found: Evidence | None = None
    try:
        found = _as_the_policy_reads_it(read_evidence(evidence, endorsements), references)
        verdict = judge(found, references, expected, now)
    except AttestationError as error:
        click.echo(_refusal_json(error, found) if as_json_ else _refusal(error))
        sys.exit(outcome_of(error).exit_code)
    warnings = (*verdict.warnings, *([_UNBOUND] if expected is None else []))
    click.echo(_verdict_json(verdict, warnings) if as_json_ else _accepted(verdict, warnings))


def _as_the_policy_reads_it(evidence: Evidence, references: tuple[ReferenceValues, ...]) -> Evidence:
    """A simulated report has the form of a real one; a policy for simulated ones only reads it as that."""
    if evidence.tee is Tee.SEV_SNP and all(values.tee is Tee.SIMULATED for values in references):
        return replace(evidence, tee=Tee.SIMULATED)
    return evidence


def _report_data(text: str | None) -> bytes | None:
    if text is None:
        return None
    if not re.fullmatch(r"([0-9a-fA-F]{2}){1,1024}", text):
        raise Failure(f"--report-data: expected an even number of hexadecimal digits, found {text[:80]!r}")
    return bytes.fromhex(text)


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        if re.fullmatch(r"[0-9]{1,12}", text):
            return datetime.fromtimestamp(int(text), UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise Failure(f"--at: expected a time such as 2026-11-24T12:00:00Z, found {text[:80]!r}") from error
    if found.tzinfo is None:
        raise Failure(f"--at: expected a time with its zone, such as {found.isoformat()}Z, found none")
    return found


def _accepted(verdict: Verdict, warnings: tuple[str, ...]) -> str:
    mark = f" ({_PROTECTS_NOTHING})" if verdict.simulated else ""
    lines = [click.style(f"ACCEPTED{mark}", fg="yellow" if warnings or mark else "green", bold=True)]
    lines += [click.style(f"warning: {warning}", fg="yellow") for warning in warnings]
    return "\n".join([*lines, "", *claim_lines(verdict.claims), "", *check_lines(verdict.checks, None)])


def _refusal(error: AttestationError) -> str:
    word = outcome_of(error).verdict.upper().replace("-", " ")
    lines = [click.style(f"{word}: {error}", fg="red", bold=True), "", *check_lines(error.passed, error)]
    return "\n".join(lines)


def _verdict_json(verdict: Verdict, warnings: tuple[str, ...]) -> str:
    outcome = ACCEPTED_WITH_WARNINGS if warnings or verdict.simulated else ACCEPTED
    return _json(
        {
            "verdict": outcome.verdict,
            "ear.status": outcome.status,
            "tee": verdict.tee,
            "simulated": verdict.simulated,
            "claims": dict(as_json(verdict.claims)),
            "claims_verified": True,
            "checks": _checks(verdict.checks),
            "warnings": list(warnings),
        }
    )


def _refusal_json(error: AttestationError, evidence: Evidence | None) -> str:
    outcome = outcome_of(error)
    failed = Check(number=error.number or 0, name=error.field, expected=error.expected, found=error.found)
    return _json(
        {
            "verdict": outcome.verdict,
            "ear.status": outcome.status,
            "tee": None if evidence is None else evidence.tee,
            "claims": dict(as_json(_unverified(evidence))),
            "claims_verified": False,
            "checks": [*_checks(error.passed), {**_check(failed), "number": error.number, "passed": False}],
            "error": {"field": error.field, "expected": error.expected, "found": error.found},
        }
    )


def _unverified(evidence: Evidence | None) -> Claims:
    """What refused evidence says of itself, where it can be read at all."""
    if evidence is None:
        return ()
    try:
        return FAMILIES[evidence.tee].describe(evidence.report)
    except AttestationError:
        return ()


def _checks(checks: tuple[Check, ...]) -> list[Json]:
    return [{**_check(check), "passed": True} for check in checks]


def _check(check: Check) -> dict[str, Json]:
    return {"number": check.number, "name": check.name, "expected": check.expected, "found": check.found}


def _json(report: dict[str, Json]) -> str:
    return json.dumps(report, indent=2)
