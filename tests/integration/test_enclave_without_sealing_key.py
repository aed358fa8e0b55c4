"""A TEE that gives its code no key across a restart (TDX, Nitro): one boot runs a federation, and no second one."""

import pytest
from memory_federation import MEASUREMENT, MemoryFederation

from appliance.enclave.startup import StartRefusedError
from attestation.collect.errors import NoSealingKey
from attestation.collect.platform import SimulatedPlatform


class Forgetful(SimulatedPlatform):
    """A machine that keeps no secret."""

    def sealing_key(self) -> bytes:
        raise NoSealingKey("Forgetful: no secret outlives a restart")


def federation(rounds: int) -> MemoryFederation:
    return MemoryFederation(replace={"rounds = 40": f"rounds = {rounds}"}, platform=Forgetful)


def test_its_first_boot_runs_the_federation_to_its_end_and_says_what_it_can_not() -> None:
    made = federation(3)
    made.enrol_all()
    made.run()
    assert all(silo.finished for silo in made.silos.values())
    assert made.kinds().count("round.published") == 3
    assert made.events[0] == "sealing state=this-boot-only because=Forgetful: no secret outlives a restart"


def test_it_does_not_go_on_with_a_log_whose_key_is_gone() -> None:
    made = federation(3)
    with pytest.raises(StartRefusedError, match="no secret outlives a restart; the store's log can't be gone on with"):
        made.boot()
    assert made.kinds() == ["log.genesis", "appliance.started"]


def test_its_sealed_state_opens_under_nobodys_key() -> None:
    """Not even under that of the simulated TEE, which everybody has."""
    made = federation(1)
    made.platform = SimulatedPlatform
    with pytest.raises(StartRefusedError, match="sealed by another image, TCB, agreement or log than this one"):
        made.boot(measurement=MEASUREMENT)
