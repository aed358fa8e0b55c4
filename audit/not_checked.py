"""What an audit did not check: what no log can tell, and what this audit was not given the means to.

Pure; texts only. Called by `audit.verify`.
"""

from audit.as_of import AsOf
from audit.kept import Kept
from protocol.agreement import Agreement
from protocol.fields import format_digest

_NEVER = (
    "what is in models and updates: they are sealed, and only their digests' lineage was replayed",
    "the aggregation: that a model is made of its cohort follows from the code that evidence vouches for",
    "credentials: the log says until when a silo was admitted, and not what its certificate says",
    "sealed state and sealed bodies: the log names their digests, and they lie outside it",
    "times: they are those of the appliance's own clock",
    "attempts by strangers to enrol: the enclave counts them and logs none",
)


def not_checked(agreement: Agreement, *, heads: int, kept: Kept | None, as_of: AsOf | None) -> list[str]:
    """Sentences. `heads`: how many checkpoints from elsewhere the log was held against."""
    lines = [*_NEVER, *_continuation(heads, kept), *_other_day(as_of)]
    if (before := agreement.predecessor) is not None:
        lines.append(
            f"the log before this one, of {format_digest(before.agreement)}, but for its end: --predecessor does"
        )
    if without := [silo.name for silo in agreement.silos if not silo.needs_evidence]:
        lines.append(f"what code runs at {', '.join(without)}: the agreement asks no evidence of them")
    if agreement.simulated:
        lines.append("that any hardware protects anything: the TEEs are simulated, and their keys are public")
    return lines


def _continuation(heads: int, kept: Kept | None) -> list[str]:
    lines = []
    if not heads and kept is None:
        which = "only a checkpoint that a silo has kept can tell (--head, --receipts)"
        lines.append(f"whether the log goes on, elsewhere or later: {which}")
    else:
        given = [f"{heads} checkpoint{'s' * (heads > 1)}"] if heads else []
        if kept is not None:
            given.append(f"{kept.held} receipt{'s' * (kept.held != 1)}")
        lines.append(f"whether the log goes on beyond what {' and '.join(given)} show, elsewhere or later")
    if kept is None:
        lines.append("whether silos hold receipts for something else than this log (--receipts)")
    return lines


def _other_day(as_of: AsOf | None) -> list[str]:
    if as_of is None:
        return ["whether the evidence would be accepted today, and not only when it was logged (--endorsements)"]
    lines = []
    for standings, why in (
        (as_of.unchecked, "no list for it could be used"),
        (as_of.unpublished, "there are no lists"),
    ):
        if standings:
            pieces = sum(item.count for item in standings)
            lines.append(f"whether {pieces} piece{'s' * (pieces > 1)} of evidence would still be accepted: {why}")
    return lines
