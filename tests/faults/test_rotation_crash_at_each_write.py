"""A rotating start is stopped before and after each of its durable writes: the next start finds one key or the other.

Whichever it is, bodies and state open under it, the audit passes, and the federation ends bit for bit as one whose key
never changed. The silos stay, and learn of whatever the key has become.
"""

import pytest
import torch
from memory_federation import MemoryFederation
from stopping_store import Stopped, StoppingStore
from torch import Tensor

from audit.log_files import LogFiles
from audit.report import AuditVerdict
from audit.resources import checkpoint_sizes
from audit.verify import verify
from silo_client.bodies import read_control


def begun() -> MemoryFederation:
    """One of two rounds is published, the other announced."""
    federation = MemoryFederation(silos=3, replace={"rounds = 40": "rounds = 2"})
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("round.published") == 1)
    return federation


def end_of(federation: MemoryFederation) -> list[Tensor]:
    silos = federation.silos.values()
    assert all(silo.finished for silo in silos), [silo.errors for silo in silos]
    controls = [read_control(silo.machine.state, federation.layout) for silo in silos]
    return [silo.models[-1] for silo in silos] + controls


def undisturbed() -> list[Tensor]:
    federation = begun()
    federation.run()
    return end_of(federation)


def writes() -> int:
    """How many changes a rotating start makes."""
    federation = begun()
    store = StoppingStore(federation.store, None, after=False)  # type: ignore[arg-type]
    federation.boot(store=store, rotate_log_key=True)  # type: ignore[arg-type]
    return store.changes


EXPECTED, WRITES = undisturbed(), writes()


def stopped_at(stop_at: int, *, after: bool) -> tuple[MemoryFederation, bool]:
    """A federation whose rotating start was stopped; and whether its handover was durable by then."""
    federation = begun()
    disk = federation.store
    size = checkpoint_sizes(disk)[-1]
    with pytest.raises(Stopped):
        federation.boot(store=StoppingStore(disk, stop_at, after), rotate_log_key=True)  # type: ignore[arg-type]
    return federation, checkpoint_sizes(disk)[-1] > size


SLOW_AFTER = pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["before", "after"]
)


@SLOW_AFTER
@pytest.mark.parametrize("stop_at", range(1, WRITES + 1))
def test_the_next_start_finds_one_key_or_the_other(stop_at: int, after: bool) -> None:
    federation, handed_over = stopped_at(stop_at, after=after)
    before = verify(LogFiles(federation.store), federation.agreement)
    assert before.verdict is not AuditVerdict.FAIL, before.divergence
    federation.boot()
    assert federation.kinds().count("key.rotated") == (1 if handed_over else 0)
    report = verify(LogFiles(federation.store), federation.agreement)
    assert report.verdict is AuditVerdict.PASS, (report.divergence, report.missing)
    # Nothing is left of the key that is not in force: one state that the key's entry names, and the newest one.
    assert len(federation.store.list("state/")) == (1 if handed_over else 2)
    assert len(federation.store.list("models/")) == 2


def sampled(change: int) -> object:
    return change if change in (WRITES // 2, WRITES - 1) else pytest.param(change, marks=pytest.mark.slow)


@pytest.mark.parametrize("rotates_again", [False, pytest.param(True, marks=pytest.mark.slow)])
@SLOW_AFTER
@pytest.mark.parametrize("stop_at", [sampled(change) for change in range(1, WRITES + 1)])
def test_the_federation_ends_as_if_nothing_had_happened(stop_at: int, after: bool, rotates_again: bool) -> None:
    federation, handed_over = stopped_at(stop_at, after=after)
    federation.boot(rotate_log_key=rotates_again)
    assert federation.kinds().count("key.rotated") == handed_over + rotates_again
    for silo in federation.silos.values():
        federation.enrol(silo)
    federation.run()
    assert all(torch.equal(one, other) for one, other in zip(end_of(federation), EXPECTED, strict=True))
    assert verify(LogFiles(federation.store), federation.agreement).verdict is AuditVerdict.PASS
