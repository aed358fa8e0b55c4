"""A store of five entries with every kind of file, and copies of it to tamper with: for the tests of the audit."""

from audit_history import QUORUM, Recorder, Told, agreement_of, honest, told

from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.report import AuditReport, AuditVerdict
from audit.store import MemoryStore
from audit.verify import verify

AGREEMENT = agreement_of()
PASS, FAIL, INCOMPLETE = AuditVerdict.PASS, AuditVerdict.FAIL, AuditVerdict.INCOMPLETE


def short() -> Told:
    """Five entries: enough for every kind of file."""
    recorder = Recorder(AGREEMENT)
    recorder.batch(recorder.genesis(), recorder.started())
    recorder.batch(recorder.admitted("silo-4"))
    recorder.batch(recorder.opened(), cosigners=QUORUM)
    recorder.batch(recorder.accepted("silo-4"))
    return told(recorder)


SHORT = short().store()
LONG = honest(AGREEMENT)


def copy_of(store: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    for name in store.list(""):
        copy.write(name, store.read(name))
    return copy


def audit(store: MemoryStore, **kept: Checkpoint) -> AuditReport:
    return verify(LogFiles(store), AGREEMENT, kept=kept)


def named(report: AuditReport) -> set[str | None]:
    return {finding.resource for finding in (*report.damage, *report.missing)}


def flipped(store: MemoryStore, name: str, position: int, bit: int) -> MemoryStore:
    copy, data = copy_of(store), bytearray(store.read(name))
    data[position] ^= 1 << bit
    copy.write(name, bytes(data))
    return copy
