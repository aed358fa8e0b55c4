"""The log key is rotated in the middle of a federation: real enclave, real silo machines, in memory."""

import torch
from memory_federation import MemoryFederation

from silo_client.bodies import read_control


def federation_of(rounds: int) -> MemoryFederation:
    return MemoryFederation(silos=3, replace={"rounds = 40": f"rounds = {rounds}"})


def end_of(federation: MemoryFederation) -> list[torch.Tensor]:
    silos = federation.silos.values()
    assert all(silo.finished for silo in silos), [silo.errors for silo in silos]
    return [silo.models[-1] for silo in silos] + [read_control(silo.machine.state, federation.layout) for silo in silos]


def undisturbed(rounds: int) -> list[torch.Tensor]:
    federation = federation_of(rounds)
    federation.enrol_all()
    federation.run()
    return end_of(federation)


def test_it() -> None:
    federation = federation_of(3)
    federation.enrol_all()
    federation.run(until=lambda: federation.kinds().count("round.published") == 1)
    federation.boot(rotate_log_key=True)
    for silo in federation.silos.values():
        federation.enrol(silo)
    federation.run()
    for a, b in zip(end_of(federation), undisturbed(3), strict=True):
        assert torch.equal(a, b)
    print(federation.kinds(), federation.events, federation.store.list("state"), federation.store.list("models"))
