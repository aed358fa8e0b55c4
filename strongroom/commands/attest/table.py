"""Claims and checks as aligned lines for a terminal; long values go on below, nothing is cut."""

import textwrap

import click

from attestation.check import Check
from attestation.claims import Claims
from attestation.errors import AttestationError
from protocol.agreement_toml import printable

_WIDTH = 120
_DEEPEST = 23


def claim_lines(claims: Claims) -> list[str]:
    """One claim a line: name, words."""
    width = max((len(claim.name) for claim in claims), default=0)
    return [line for claim in claims for line in _wrapped(f"  {claim.name:{width}}  ", printable(claim.words))]


def check_lines(checks: tuple[Check, ...], failed: AttestationError | None) -> list[str]:
    """Each check with its number and what was found; below it what was expected, unless that is the same."""
    rows = [(str(check.number), "ok", check.name, check.expected, check.found) for check in checks]
    if failed is not None:
        number = "" if failed.number is None else str(failed.number)
        rows.append((number, "FAILED", failed.field, failed.expected, failed.found))
    lines = []
    for number, state, name, expected, found in rows:
        mark = click.style(f"{state:6}", fg="green" if state == "ok" else "red")
        lines += _wrapped(f"  {number:>2}  {mark}  {printable(name)}: ", printable(found))
        if expected != found:
            lines += _wrapped("              expected ", printable(expected))
    return lines


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * min(len(click.unstyle(start)), _DEEPEST),
        break_long_words=True,
        break_on_hyphens=False,
    ) or [start.rstrip()]
