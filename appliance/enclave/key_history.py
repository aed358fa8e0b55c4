"""Answering a silo that knows a former log key: the changes since, each with what shows it (`audit.key_history`).

All of it is in the log, and nothing of it is secret. Called by `Enclave` under its lock, for silos that the agreement
names.
"""

from appliance.enclave.ledger import Ledger
from audit.entries import KeyRotated
from protocol.errors import RefusalCode, refuse
from protocol.key_history import MAXIMUM_CHANGES, Catchup, KeyChange, KeyHistory
from protocol.session import Consistency


def changes_since(ledger: Ledger, catchup: Catchup) -> KeyHistory:
    """The changes after the key that the silo knows; raises `RefusedError` (other-log, log-rolled-back)."""
    history = ledger.history
    # A log that nobody has begun has no key; one that is served has.
    keys = [entry.previous for _, entry in history.key_changes] + [history.log_key or b""]
    if catchup.log_key not in keys:
        raise refuse(
            RefusalCode.OTHER_LOG,
            expected="a silo that knows a key of this log",
            found="one that knows a key which this log never had",
            remedy="the appliance and the silo hold two logs under one agreement: compare their notes",
        )
    following = history.key_changes[keys.index(catchup.log_key) :]
    if following and catchup.head > following[0][0]:
        raise refuse(
            RefusalCode.LOG_ROLLED_BACK,
            expected=f"a silo that knows at most the {following[0][0]} entries which that key has signed",
            found=f"one that knows {catchup.head}",
            remedy="the appliance's store is older than what silos have cosigned: restore the newest one",
        )
    head, changes = catchup.head, []
    for index, entry in following[:MAXIMUM_CHANGES]:
        checkpoint = ledger.first_checkpoint_above(index)
        base: Consistency | None = None
        grants: bytes | None = None
        consistency = ledger.consistency(head, checkpoint.size)
        if not isinstance(entry, KeyRotated):
            consistency, base = ledger.consistency(head, entry.size), ledger.consistency(entry.size, checkpoint.size)
            grants = ledger.get_object(entry.grants)
        changes.append(
            KeyChange(
                logged=ledger.logged(index, checkpoint.size),
                checkpoint=checkpoint.encode().decode(),
                consistency=consistency,
                base=base,
                grants=grants,
            )
        )
        head = checkpoint.size
    return KeyHistory(changes=tuple(changes))
