"""From a log to the one before it: the audit of a predecessor, held to the checkpoint that its successor began with.

What leaf 0 of the newer log says of the older one is checked where the newer one is audited (`audit.succession`). This
adds the older log itself, whole: it must hold that checkpoint, and so end as its successor says. Called by the audit's
command; trusts what the newer agreement names by digest.
"""

from collections.abc import Iterable

from audit.doubts import OtherDay
from audit.entries import LogGenesis, parse_entry
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.receipt_files import HandedIn, NotUnderstood
from audit.report import AuditReport
from audit.resources import CHECKPOINT, LogDamagedError, read_bundle, read_object
from audit.store import StoreError
from audit.succession import SuccessionProof
from audit.verify import Progress, verify
from protocol.agreement import Agreement
from protocol.errors import MalformedError
from protocol.succession import SuccessionError

_END = "the end of this log, in its successor's first entry"


def verify_predecessor(
    newer: LogFiles,
    agreement: Agreement,
    older: LogFiles,
    *,
    receipts: Iterable[HandedIn | NotUnderstood] | None = None,
    other_day: OtherDay | None = None,
    progress: Progress | None = None,
) -> tuple[Agreement, AuditReport]:
    """Audit the log that the newer one goes on from; returns its agreement and the verdict.

    Raises `SuccessionError` if `agreement` has no predecessor, or the newer log lacks what names it; `StoreError`.
    """
    old, end = predecessor_of(newer, agreement)
    return old, verify(older, old, kept={_END: end}, receipts=receipts, other_day=other_day, progress=progress)


def predecessor_of(newer: LogFiles, agreement: Agreement) -> tuple[Agreement, Checkpoint]:
    """The agreement before this one, and the checkpoint that its log ends with, as the newer log has them.

    Raises as `verify_predecessor` does.
    """
    if agreement.predecessor is None:
        raise SuccessionError(
            f"the agreement of {agreement.log.origin} succeeds none: expected no log before it, found one given"
        )
    try:
        old = Agreement.parse(_object(newer, agreement.predecessor.agreement), "the predecessor's agreement")
        genesis = parse_entry(_first_entry(newer))
        if not isinstance(genesis, LogGenesis) or genesis.predecessor is None:
            raise SuccessionError("expected a first entry that names the predecessor's log, found another")
        proof = SuccessionProof.parse(_object(newer, genesis.predecessor.proof))
        return old, Checkpoint.parse(proof.note.encode())
    except (MalformedError, LogDamagedError) as error:
        raise SuccessionError(f"what the log holds of its predecessor can't be read: {error}") from error


def _first_entry(files: LogFiles) -> bytes:
    """Leaf 0, unverified: the audit of this log has judged it."""
    bundle = Inventory.take(files.listed()).widest_bundle(0)
    if bundle is None:
        raise SuccessionError(f"{CHECKPOINT}: expected a log with entries, found none")
    return read_bundle(files, bundle)[0]


def _object(files: LogFiles, digest: bytes) -> bytes:
    try:
        return read_object(files, digest)
    except (LogDamagedError, StoreError) as error:
        raise SuccessionError(f"what the log holds of its predecessor is missing: {error}") from error
