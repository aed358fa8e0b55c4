"""Check that evidence commits to what we asked for: the last line of every family's checklist."""

from hmac import compare_digest

from attestation.checklist import Checklist


def require_commitment(checks: Checklist, number: int, expected: bytes | None, found: bytes) -> None:
    """Equal in all bytes, and not all zero. None compares nothing, and the line says so."""
    if expected is None:
        checks.passed(number, "report_data", "anything: nothing was given to compare it with", found.hex())
        return
    checks.require(
        compare_digest(found, expected) and any(expected),
        number,
        "report_data",
        expected.hex() if any(expected) else "a commitment, not zero bytes",
        found.hex(),
    )
