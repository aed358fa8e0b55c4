"""A log whose key is lost goes on under another with the silos' leave: real enclave, real silo machines, in memory."""

from collections.abc import Callable

import pytest
import torch
from memory_federation import MemoryFederation

from appliance.enclave.startup import StartRefusedError
from audit.entries import LogRecovered, RoundOpened, RoundPublished, parse_entry


def federation_of(rounds: int, **example: object) -> MemoryFederation:
    return MemoryFederation(silos=4, replace={"rounds = 40": f"rounds = {rounds}"}, **example)  # type: ignore[arg-type]


def entries(made: MemoryFederation, kind: type) -> list:  # type: ignore[type-arg]
    return [entry for _, data in made.history() if isinstance(entry := parse_entry(data), kind)]


def lose(made: MemoryFederation) -> None:
    """The machine is gone: log and bodies were copied, the sealed state opens nowhere."""
    for name in made.store.list("state/"):
        made.store.delete(name)


def come_back(made: MemoryFederation) -> None:
    for terms in made.agreement.silos:
        made.enrol(made.silo(terms.name))


def published(rounds: int) -> Callable[[MemoryFederation], bool]:
    return lambda made: made.kinds().count("round.published") == rounds


def collecting(made: MemoryFederation) -> bool:
    return made.kinds()[-1] == "update.accepted" and made.kinds().count("round.published") == 1


def test_a_lost_sealed_state_in_the_middle() -> None:
    made = federation_of(3)
    made.enrol_all()
    made.run(until=lambda: collecting(made))
    lose(made)
    with pytest.raises(StartRefusedError, match="start with --recover, and let the silos authorise a new key"):
        made.boot()
    made.recover()
    standing = made.authorise("silo-0", "silo-1")
    assert standing is not None
    assert (standing.owners, standing.required, standing.recovered) == (("owner-0", "owner-1"), 3, None)
    size = made.enclave.describe().log_size
    standing = made.authorise("silo-3")
    assert standing is not None
    assert standing.recovered == size + 3
    assert made.kinds()[-3:] == ["log.recovered", "appliance.started", "round.abandoned"]
    come_back(made)
    made.run()
    assert all(silo.finished for silo in made.silos.values()), [silo.errors for silo in made.silos.values()]
    (recovered,) = entries(made, LogRecovered)
    first, *_ = entries(made, RoundPublished)
    assert recovered.model == first.model_out
    opened = entries(made, RoundOpened)
    assert [(entry.round, entry.attempt, entry.control is None) for entry in opened] == [
        (1, 1, True),
        (2, 1, False),
        (2, 2, True),
        (3, 1, False),
    ]
    assert [entry.round for entry in entries(made, RoundPublished)] == [1, 2, 3]
    finals = [silo.models[-1] for silo in made.silos.values()]
    assert all(torch.equal(final, finals[0]) for final in finals)
