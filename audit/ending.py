"""What a history leaves open where its log ends: no fault, as a log is read at any moment, and said all the same.

Pure. Called by the audit once every entry has been taken.
"""

from audit.phases import Phase
from audit.replay import History


def ending(history: History) -> list[str]:
    """Sentences about what the log's last entry leaves open; none for one that is closed and owes nothing."""
    lines = []
    if history.phase is Phase.CREATED:
        lines.append("the log ends before the appliance's first start")
    if history.phase in (Phase.COLLECTING, Phase.COMMITTED, Phase.INTERRUPTED):
        lines.append(_open_attempt(history))
    if history.reset_due is not None and history.phase is not Phase.CLOSED:
        lines.append(f"the control.reset that {history.reset_due} is due has not come yet")
    if history.barred:
        names = ", ".join(sorted(history.barred))
        lines.append(f"barred, as bytes of theirs changed between admission and merge: {names}")
    if history.phase is not Phase.CLOSED:
        rounds = history.agreement.federation.rounds
        lines.append(f"the log is not closed: {history.published_rounds} of {rounds} rounds are published")
    return lines


def _open_attempt(history: History) -> str:
    where = f"round {history.round} attempt {history.attempt}, opened by entry {history.opened_index}"
    how = {
        Phase.COLLECTING: "still collects updates",
        Phase.COMMITTED: "is committed, and neither published nor abandoned yet",
    }.get(history.phase, "was interrupted by a restart, and is not abandoned yet")
    if not history.updates:
        return f"{where}, {how}; it has accepted no update"
    names = ", ".join(member.silo for member in history.cohort())
    return f"{where}, {how}: accepted, and neither used nor abandoned, are the updates of {names}"
