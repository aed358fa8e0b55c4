"""What an update says beside its numbers: how it was trained, and what the silo measured.

It is the metadata segment of an UPDATE blob: sealed, of constant size, read by the enclave only. The bounds that the
agreement sets (steps, step sizes) are checked there; here is only the format.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from protocol import canonical
from protocol.errors import MalformedError
from protocol.fields import Fields, format_decimal
from protocol.sealing.geometry import METADATA_LIMIT_BYTES

MAXIMUM_METRICS = 32
_METRIC_NAME = re.compile(r"[a-z0-9_.-]{1,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMetadata:
    """`steps`: local steps taken (K_i); `step_size_sum`: Σ η over them; `metrics`: at most 32, all finite.

    Metric names are `[a-z0-9_.-]{1,63}`. The constructor raises `MalformedError`, as `parse` does.
    """

    steps: int
    step_size_sum: float
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        if len(self.metrics) > MAXIMUM_METRICS:
            raise MalformedError(f"update.metrics: expected at most {MAXIMUM_METRICS}, found {len(self.metrics)}")
        for name in self.metrics:
            if not _METRIC_NAME.fullmatch(name):
                raise MalformedError(f"update.metrics: expected names [a-z0-9_.-]{{1,63}}, found {name[:80]!r}")
        for name, value in (("step_size_sum", self.step_size_sum), *self.metrics.items()):
            if not math.isfinite(value):
                raise MalformedError(f"update.{name}: expected a finite number, found {value}")

    def encode(self) -> bytes:
        """Canonical JSON, at most 4,092 bytes; numbers that aren't integers are decimal strings."""
        return canonical.encode(
            {
                "steps": self.steps,
                "step_size_sum": format_decimal(self.step_size_sum),
                "metrics": {name: format_decimal(value) for name, value in self.metrics.items()},
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "UpdateMetadata":
        """Read the metadata; raises `MalformedError`."""
        fields = Fields(canonical.decode(data, limit_bytes=METADATA_LIMIT_BYTES), "update")
        steps = fields.integer("steps")
        step_size_sum = fields.decimal("step_size_sum")
        names = fields.take("metrics", "a table")
        metrics = Fields(names, "update.metrics")
        fields.close()
        values = {name: metrics.decimal(name) for name in (names if isinstance(names, dict) else ())}
        return cls(steps=steps, step_size_sum=step_size_sum, metrics=values)
