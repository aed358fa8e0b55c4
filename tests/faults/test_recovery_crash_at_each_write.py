"""A recovery is stopped before and after each durable write, of the enclave and of a silo; it succeeds all the same.

Before the batch that begins with log.recovered the log is without its key, as before: it is recovered again, and silos
give their leave again. After it, the next start goes on by itself.
"""

import functools

import pytest
from lost_key import come_back, copy_of, federation_of, lose, reached, run_to_the_end
from memory_federation import MemoryFederation
from stopping_store import Stopped, StoppingStore

from appliance.enclave.startup import StartRefusedError
from audit.store import MemoryStore

QUORUM = ("silo-0", "silo-1", "silo-3")


@functools.cache
def lost() -> tuple[MemoryFederation, MemoryStore, dict[str, MemoryStore]]:
    made = federation_of(2)
    made.run(until=lambda: reached("update.accepted", 1, times=2)(made))
    lose(made.store)
    assert isinstance(made.store, MemoryStore)
    return made, made.store, made.silo_stores


def scene() -> MemoryFederation:
    """A federation whose appliance has lost its keys in the middle of round 2."""
    made, store, silo_stores = lost()
    made.store = copy_of(store)
    made.silo_stores = {name: copy_of(each) for name, each in silo_stores.items()}
    made.silos = {}
    return made


def recover(made: MemoryFederation) -> None:
    made.recover()
    made.authorise(*QUORUM)


def stopped_enclave(stop_at: int | None, after: bool) -> int:
    """Returns how many changes the recovery made, if it was not stopped."""
    made = scene()
    disk = made.store
    assert isinstance(disk, MemoryStore)
    store = StoppingStore(disk, stop_at, after)
    made.store = store  # type: ignore[assignment]
    try:
        recover(made)
        assert stop_at is None
    except Stopped:
        made.store = disk
        try:
            made.boot()
        except StartRefusedError:
            assert "log.recovered" not in made.kinds()
            recover(made)
    changes, made.store = store.changes, disk
    come_back(made)
    run_to_the_end(made)
    assert made.kinds().count("log.recovered") == 1
    return changes


CHANGES = stopped_enclave(None, False)


def sampled(stop_at: int, after: bool) -> object:
    """One in five of them; the others are in the whole suite."""
    marks = () if (2 * stop_at + after) % 5 == 0 else pytest.mark.slow
    return pytest.param(stop_at, after, marks=marks, id=f"{stop_at}-{'after' if after else 'before'}")


@pytest.mark.parametrize(
    ("stop_at", "after"), [sampled(change, after) for change in range(1, CHANGES + 1) for after in (False, True)]
)
def test_the_enclave_stops_at_any_write(stop_at: int, after: bool) -> None:
    assert CHANGES >= 10
    stopped_enclave(stop_at, after)


@pytest.mark.parametrize(
    ("stop_at", "after"), [sampled(1, False), sampled(2, True), sampled(1, True), sampled(2, False)]
)
def test_a_silo_stops_at_any_write(stop_at: int, after: bool) -> None:
    """What it keeps before its grant leaves: the grant, and its head. It gives another one to the same boot."""
    made = scene()
    made.recover()
    disk = made.silo_stores["silo-0"]
    store = StoppingStore(disk, None, after)
    made.silo_stores["silo-0"] = store  # type: ignore[assignment]
    dialog, _ = made.asks("silo-0")
    store.stop_at = store.changes + stop_at
    with pytest.raises(Stopped):
        dialog.grant()
    made.silo_stores["silo-0"] = disk
    made.authorise(*QUORUM)
    come_back(made)
    run_to_the_end(made)
