"""Aggregated metrics, as they travel in a model's metadata segment: sealed, like the model that they belong to."""

from collections.abc import Mapping

from protocol import canonical
from protocol.errors import MalformedError
from protocol.fields import Fields, format_decimal
from protocol.sealing.geometry import METADATA_LIMIT_BYTES


def encode_metrics(metrics: Mapping[str, float]) -> bytes:
    """Canonical JSON {name: decimal string}."""
    return canonical.encode({name: format_decimal(value) for name, value in metrics.items()})


def parse_metrics(data: bytes) -> dict[str, float]:
    """Read what `encode_metrics` wrote; raises `MalformedError`."""
    table = canonical.decode(data, limit_bytes=METADATA_LIMIT_BYTES)
    fields = Fields(table, "metrics")
    metrics = {name: fields.decimal(name) for name in table}
    if any(len(name) > 63 for name in metrics):
        raise MalformedError("metrics: expected names of at most 63 characters")
    return metrics
