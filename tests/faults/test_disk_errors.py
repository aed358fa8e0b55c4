"""The disk is full, fails, became read-only, or there are no descriptors left: at any call of enclave and silo.

Whoever can't write ends, with words that say what and what to do. Once the error is lifted a new process goes on from
what is durable; nothing is lost, and the federation ends with the same bits. After a failed fsync the kernel has thrown
the bytes away and says so once: nobody believes in them any more, as a power cut at the end shows.
"""

import errno
import os
from collections.abc import Callable

import pytest
from crashing_federation import APPLIANCE, SILO, CrashingFederation, check_in_between, same, undisturbed
from modelled_disk import Call, Outcome, Plan

from appliance.enclave.bodies import BodyError
from appliance.enclave.ledger import LedgerFailure
from appliance.enclave.startup import StartRefusedError
from audit.entries import RoundAbandoned, parse_entry
from audit.log import LogReader
from audit.replay import RESTART
from audit.report import AuditVerdict
from audit.store import StoreError
from silo_client.state import StateError

PARTS = 4
_SPACE = {"create", "mkdir", "write", "write-half", "sync-file"}
_NAMES = _SPACE | {"rename", "unlink", "truncate", "chmod", "sync-folder"}
_ALL = _NAMES | {"open", "read", "dup", "list"}
ERRORS = {
    "ENOSPC": (errno.ENOSPC, _SPACE),
    "EDQUOT": (errno.EDQUOT, _SPACE),
    "EROFS": (errno.EROFS, _NAMES),
    "EMFILE": (errno.EMFILE, {"create", "open", "dup"}),
    "EIO": (errno.EIO, _ALL),
}
REMEDIES = {
    "ENOSPC": "make room on its disk",
    "EDQUOT": "allow more room",
    "EROFS": "mount its disk for writing",
    "EMFILE": "allow more open files",
    "EIO": "the disk, or what leads to it, fails",
}


class FailingFederation(CrashingFederation):
    """A process ends at its first error of the store; what it said is kept. Nothing else of it is believed."""

    def is_a_stop(self, error: BaseException) -> bool:
        return isinstance(error, StoreError | StateError | LedgerFailure | StartRefusedError | BodyError)


def failing(number: int, code: int, kinds: set[str], *, times: int | None = None) -> Plan:
    """From the n-th call of these kinds on, or so many times, that call fails."""
    counted = 0

    def plan(_: int, call: Call) -> OSError | None:
        nonlocal counted
        if call.kind not in kinds:
            return None
        counted += 1
        if counted < number or (times is not None and counted >= number + times):
            return None
        return OSError(code, os.strerror(code), call.path)

    return plan


def calls(party: str, kinds: set[str]) -> int:
    return sum(call.kind in kinds for call in undisturbed()[0].disks[party].calls)


def tell(party: str, plan: Plan, words: str) -> None:
    """A story in which a party's disk fails, until it is started again."""
    told = FailingFederation(party=party, plan=plan, outcome=Outcome.KILLED)
    with told.mounted():
        told.tell()
        said = [str(error) for error in told.stops]
        assert all(words in line and "\n" not in line for line in said), said
        assert same(told.results(), undisturbed()[1])
        assert told.audit().verdict is AuditVerdict.PASS
        for report in told.audits:
            check_in_between(report)
        reasons = {entry.reason for entry in entries(told) if isinstance(entry, RoundAbandoned)}
        assert reasons <= {RESTART}, "a disk that fails is nobody's fault but the disk's"
        for disk in told.disks.values():
            disk.cut(Outcome.SYNCED)
        assert told.audit().verdict is AuditVerdict.PASS
        told.start_over()
        told.tell()
        assert same(told.results(), undisturbed()[1])


def entries(told: CrashingFederation) -> list[object]:
    return [parse_entry(data) for data in LogReader(told.federation.store).entries()]


def somewhere(part: int, of: int, total: int) -> range:
    """Every `of`-th number up to the total, beginning with this part."""
    return range(1 + part, total + 1, of)


@pytest.mark.parametrize(
    ("name", "party"), [(name, (APPLIANCE, SILO)[i % 2]) for i, name in enumerate(ERRORS)] + [("ENOSPC", SILO)]
)
def test_an_error_that_stays_until_the_next_start(name: str, party: str) -> None:
    code, kinds = ERRORS[name]
    total = calls(party, kinds)
    tell(party, failing(total * (2 + [*ERRORS].index(name)) // 8, code, kinds), REMEDIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("party", [APPLIANCE, SILO])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_at_any_call(name: str, party: str, part: int) -> None:
    code, kinds = ERRORS[name]
    for number in somewhere(part, PARTS * 20, calls(party, kinds)):
        tell(party, failing(number, code, kinds), REMEDIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("party", [APPLIANCE, SILO])
def test_an_error_that_comes_once(party: str, part: int) -> None:
    for number in somewhere(part, PARTS * 20, calls(party, _ALL)):
        tell(party, failing(number, errno.EIO, _ALL, times=1), REMEDIES["EIO"])


@pytest.mark.parametrize(("kind", "party"), [("sync-file", APPLIANCE), ("sync-folder", SILO)])
def test_a_sync_that_fails_once_is_not_believed_the_second_time(party: str, kind: str) -> None:
    number = calls(party, {kind}) * 5 // 7
    tell(party, failing(number, errno.EIO, {kind}, times=1), REMEDIES["EIO"])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["sync-file", "sync-folder"])
@pytest.mark.parametrize("party", [APPLIANCE, SILO])
def test_any_sync_that_fails_once(party: str, kind: str, part: int) -> None:
    for number in somewhere(part, PARTS * 2, calls(party, {kind})):
        tell(party, failing(number, errno.EIO, {kind}, times=1), REMEDIES["EIO"])


@pytest.mark.parametrize("name", ["ENOSPC", pytest.param("EROFS", marks=pytest.mark.slow)])
def test_started_again_too_soon_it_refuses_and_loses_nothing(name: str) -> None:
    """The error is still there: the start says so, and leaves everything as it was."""
    code, kinds = ERRORS[name]
    told = FailingFederation(plan=failing(calls(APPLIANCE, kinds) // 2, code, kinds), outcome=Outcome.KILLED)
    still: list[str] = []

    def restart_too_soon(restart: Callable[[], None]) -> None:
        restart()
        if len(still) < 3:
            told.disks[APPLIANCE].plan = failing(1 + len(still), code, kinds)
            still.append(str(told.stops[-1]))

    once = told.restart
    told.restart = lambda: restart_too_soon(once)  # type: ignore[method-assign]
    with told.mounted():
        told.tell()
        assert len(told.stops) == 4
        assert all(REMEDIES[name] in line for line in still)
        assert same(told.results(), undisturbed()[1])
        assert told.audit().verdict is AuditVerdict.PASS


def test_the_model_forgets_what_a_failed_sync_had() -> None:
    """A writer that tries the same sync again would lose everything: the model can tell."""
    told = CrashingFederation()
    disk = told.disks[APPLIANCE]
    with told.mounted():
        store = told.store(APPLIANCE)
        sink = store.create("a", 4)
        sink.write_at(0, b"data")
        disk.plan = failing(1, errno.EIO, {"sync-file"}, times=1)
        with pytest.raises(StoreError):
            sink.commit()
        sink.commit()
        assert store.read("a") == b"data"
        disk.cut(Outcome.SYNCED)
        assert told.store(APPLIANCE).read("a") != b"data"
