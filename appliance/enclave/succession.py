"""From one agreement to the next, as the enclave does it: the end of the old log, the beginning of the new.

Both happen at a start, on the operator's word; what makes it so are the silos' approvals, which are checked here as an
auditor will check them. Called by `startup`.
"""

from dataclasses import dataclass

from appliance.enclave.ledger import Ledger
from audit.entries import LogSuperseded, Predecessor
from audit.log_files import LogFiles
from audit.predecessor import read_end
from audit.succession import check_begun, check_carried
from protocol.agreement import Agreement
from protocol.fields import format_digest
from protocol.succession import SuccessionError, check_approvals


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """What the operator hands over to end a log: the next agreement, and signed approvals (`protocol.succession`)."""

    agreement: Agreement
    approvals: tuple[bytes, ...]


def begin_after(agreement: Agreement, predecessor: LogFiles | None, ledger: Ledger) -> Predecessor | None:
    """What leaf 0 says of the log before, its objects durable; None for an agreement that succeeds none.

    Raises `SuccessionError`, `StoreError`.
    """
    if agreement.predecessor is None:
        return None
    if predecessor is None:
        raise SuccessionError(
            f"the agreement succeeds {format_digest(agreement.predecessor.agreement)}: expected that federation's log, "
            "found none; name its store in appliance.toml (predecessor)"
        )
    ended = read_end(predecessor, agreement)
    objects = {ledger.put_object(data): data for data in ended.objects}
    check_begun(ended.entry, agreement, lambda digest, _what: objects.get(digest))
    return ended.entry


def end_for(successor: Successor, agreement: Agreement, boot_id: bytes, ledger: Ledger) -> None:
    """Stage the log's last word, unless it has been said; raises `SuccessionError`."""
    history, new = ledger.history, successor.agreement
    if history.superseded is not None:
        if history.superseded.successor != new.digest:
            raise SuccessionError(
                f"this log has ended for {format_digest(history.superseded.successor)}, once and for all: expected "
                f"that successor, found {format_digest(new.digest)}"
            )
        return
    approvals = check_approvals(successor.approvals, agreement, new)
    check_carried(history.published_rounds, history.model, new)
    ledger.put_object(new.source)
    ledger.stage(
        LogSuperseded(
            time=ledger.now(),
            boot_id=boot_id,
            successor=new.digest,
            rounds=history.published_rounds,
            model=history.model,
            approvals=ledger.put_object(approvals.encode()),
        )
    )
