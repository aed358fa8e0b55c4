"""Aggregated metrics stand in the model's metadata: if those do not parse, no silo can train on the model."""

import pytest

from appliance.enclave.attempt import aggregate_metrics
from protocol.metrics import encode_metrics, parse_metrics


@pytest.mark.parametrize("huge", [1.7e308, -1.7e308])
def test_a_metric_near_the_end_of_float64_is_dropped_and_the_others_stay(huge: float) -> None:
    members = {
        "silo-0": (8.0, {"loss": 0.5, "accuracy": 0.25}),
        "silo-1": (8.0, {"loss": huge, "accuracy": 0.75}),
    }
    assert parse_metrics(encode_metrics(aggregate_metrics(members))) == {"accuracy": 0.5}


def test_opposite_infinities_are_no_number() -> None:
    members = {"silo-0": (1e30, {"loss": 1.7e308}), "silo-1": (1e30, {"loss": -1.7e308})}
    assert parse_metrics(encode_metrics(aggregate_metrics(members))) == {}
