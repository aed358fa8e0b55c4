"""The enclave is stopped before and after each of its durable writes; the federation ends as if it had not been.

The silos stay: their processes notice nothing but a lost connection. Equality is bit for bit, controls included.
"""

import pytest
import torch
from memory_federation import MemoryFederation
from stopping_store import Stopped, StoppingStore
from torch import Tensor

from audit.store import MemoryStore
from silo_client.bodies import read_control


def run(stop_at: int | None, after: bool) -> tuple[list[Tensor], int, bool]:
    """A federation of two rounds; returns final model and control variates, changes made, and whether it stopped."""
    disk = MemoryStore()
    store = StoppingStore(disk, stop_at, after)
    replace = {"rounds = 40": "rounds = 2"}
    stopped = False
    federation = None
    try:
        federation = MemoryFederation(silos=3, replace=replace, store=store)  # type: ignore[arg-type]
        federation.enrol_all()
        federation.run()
    except Stopped:
        stopped = True
        if federation is None:
            federation = MemoryFederation(silos=3, replace=replace, store=disk)
        else:
            federation.store = disk
            federation.boot()
        for terms in federation.agreement.silos:
            silo = federation.silos.get(terms.name) or federation.silo(terms.name)
            federation.enrol(silo)
        federation.run()
    silos = federation.silos.values()
    assert all(silo.finished for silo in silos), [silo.errors for silo in silos]
    assert federation.kinds().count("round.published") == 2
    controls = [read_control(silo.machine.state, federation.layout) for silo in silos]
    return [silo.models[-1] for silo in silos] + controls, store.changes, stopped


EXPECTED, CHANGES, _ = run(None, False)


def sampled(change: int) -> object:
    """Every write of the genesis, then one in five; the others are in the whole suite."""
    return change if change < 9 or change % 5 == 0 else pytest.param(change, marks=pytest.mark.slow)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stop_at", [sampled(change) for change in range(1, CHANGES + 1)])
def test_a_stop_at_any_write_loses_nothing(stop_at: int, after: bool) -> None:
    found, _, stopped = run(stop_at, after)
    assert stopped
    assert all(torch.equal(one, other) for one, other in zip(found, EXPECTED, strict=True))
