"""Every state of a round (`kill_moments.py`) with every victim: SIGKILL for the enclave, the gateway, a silo, the whole
appliance; and the operator, who asks the appliance to end (SIGTERM) and starts it again.
"""

import pytest
import torch
from kill_moments import MOMENTS
from kill_story import story

from audit.phases import Phase

torch.set_num_threads(1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("victim", ["enclave", "gateway", "silo", "appliance", "operator"])
def test_a_federation_outlives_its_victim_in_every_state(victim: str) -> None:
    moments = [moment for moment in MOMENTS if (moment, victim) != ("nobody-admitted", "silo")]
    with story([(moment, victim) for moment in moments]) as told:
        for strike in told.strikes:
            if strike.phase is not Phase.CLOSED:
                told.check_published(strike)
            told.check_abandoned(strike)
            told.check_pending(strike)
        told.check_the_end()
        told.check_nothing_is_lost()
        told.check_the_oracle()
