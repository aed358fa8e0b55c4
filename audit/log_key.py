"""A log's key, from the evidence in leaf 0: what a witness's operator needs before the log's first cosignature.

Trusts the agreement and the roots of trust that ship with `attestation`, and nothing in the store. That the log is the
agreement's *only* one, no evidence can tell: an operator can begin two. A witness knows one key a log, and so one log.
"""

from audit.agreed import log_key_of
from audit.entries import LogGenesis, parse_entry
from audit.findings import Findings
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.note import VerifierKey
from audit.resources import read_object
from audit.vouching import Voucher
from audit.walk import TreeWalk
from protocol.agreement import Agreement, mismatch
from protocol.errors import ProtocolError


class LogKeyError(ProtocolError):
    """What should be a log does not begin as this agreement's; one line that says why."""


def appraised_log_key(files: LogFiles, agreement: Agreement) -> VerifierKey:
    """The key in leaf 0, once its evidence is accepted under the agreement.

    Raises `LogKeyError`, `NotVouchedError`, `LogDamagedError`, `RefusedError` (agreement-mismatch), `MalformedError`,
    `StoreError`.
    """
    findings, inventory = Findings(), Inventory.take(files.listed())
    size = max(inventory.notes, default=1)
    walk = TreeWalk(files=files, inventory=inventory, size=size, heads=(), findings=findings)
    first = walk.first_entry()
    if first is None:
        raise LogKeyError("expected a log's leaf 0, found no entry bundle that holds it")
    genesis = parse_entry(first[1])
    if not isinstance(genesis, LogGenesis):
        raise LogKeyError(f"entry 0: expected log.genesis, found {genesis.KIND}")
    if genesis.agreement != agreement.digest:
        raise mismatch(agreement.digest, genesis.agreement)
    if genesis.origin != agreement.log.origin:
        raise LogKeyError(f"entry 0: expected the log {agreement.log.origin!r}, found {genesis.origin!r}")
    evidence = read_object(files, genesis.evidence)
    return log_key_of(agreement, Voucher.of_entry(genesis, evidence).appraise(agreement))
