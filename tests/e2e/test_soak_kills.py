"""`make soak-kills` in small: its figures, its table, and that it would notice a loss."""

import json

import pytest
import torch
from soak.kills import Soak, Stalled, run, table

torch.set_num_threads(1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_twenty_random_kills_lose_nothing() -> None:
    killed: list[int] = []
    found = run(20, 3, killed.append)
    assert found["losses"] == []
    assert killed == list(range(1, 21))
    assert found["kills"]["all"] == sum(
        found["kills"][victim] for victim in ("silo", "gateway", "enclave", "appliance")
    )
    assert found["rounds published"] == 40
    assert found["updates used"] + found["updates repeated"] <= found["updates accepted"]
    assert found["audit"] == "PASS (simulated: protects nothing)"
    assert "losses                                       none" in table(json.loads(json.dumps(found)))


def test_a_federation_that_does_not_go_on_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def stalls(self: Soak, victim: str) -> None:
        raise Stalled("waited 120 s for a round after the enclave was killed")

    monkeypatch.setattr(Soak, "_get_over", stalls)
    found = run(3, 4, lambda count: None)
    assert "waited 120 s for a round after the enclave was killed" in found["losses"]
    assert any(loss.startswith("expected rounds 1 to 14 once each, found ") for loss in found["losses"])
