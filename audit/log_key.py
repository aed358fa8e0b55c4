"""A log's key, from the evidence in leaf 0: what a witness's operator needs before the log's first cosignature.

Trusts the agreement and the roots of trust that ship with `attestation`, and nothing in the store. That the log is the
agreement's *only* one, no evidence can tell: an operator can begin two. A witness knows one key a log, and so one log.
"""

from audit.agreed import log_key_of
from audit.entries import LogGenesis, parse_entry
from audit.evidence import EvidenceAgain
from audit.findings import Findings
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.named_objects import NamedObjects
from audit.note import VerifierKey
from audit.replay import DivergenceError
from audit.walk import TreeWalk
from protocol.agreement import Agreement, mismatch
from protocol.agreement_toml import printable
from protocol.errors import ProtocolError


class LogKeyError(ProtocolError):
    """No evidence vouches for the log's key, or it speaks against it; one line that says why."""


def appraised_log_key(files: LogFiles, agreement: Agreement) -> VerifierKey:
    """The key in leaf 0, once its evidence is accepted under the agreement.

    Raises `LogKeyError`, `RefusedError` (agreement-mismatch), `MalformedError`, `StoreError`.
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
    objects = NamedObjects(files=files, inventory=inventory, findings=findings)
    try:
        accepted = EvidenceAgain(agreement=agreement, objects=objects, findings=findings).genesis(genesis)
    except DivergenceError as error:
        raise LogKeyError(f"entry 0: {printable(error.problem)}") from error
    if not accepted:
        why = next((str(finding) for finding in findings.missing), "its evidence could not be checked")
        raise LogKeyError(f"nothing vouches for the log key: {why}")
    return log_key_of(agreement, genesis.keys.log_key)
