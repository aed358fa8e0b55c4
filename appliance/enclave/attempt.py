"""One attempt at a round, in memory: its key, whom it was announced to, and the updates that came in.

What of it must survive is in the log; the rest, the round key first of all, dies with the attempt.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.enclave.inspect import Inspection
from protocol.keys import SealingKey


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Accepted:
    """An update that counts: `index` is its `update.accepted` entry's."""

    upload_id: bytes
    index: int
    inspection: Inspection


@dataclass(slots=True, kw_only=True, repr=False)
class Attempt:
    """An open attempt. `deadline` (unix seconds) is set when the quorum has let it out."""

    round: int
    attempt: int
    key: SealingKey
    announced: set[str] = field(default_factory=set)
    checking: set[str] = field(default_factory=set)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    deadline: int | None = None

    def has_verdict(self, silo: str) -> bool:
        """Whether the silo's complete upload was judged already; it is never replaced."""
        return silo in self.accepted or silo in self.refused

    def is_complete(self) -> bool:
        """Whether everybody who was told of the attempt has answered."""
        return all(self.has_verdict(silo) for silo in self.announced)


def aggregate_metrics(members: Mapping[str, tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Weighted means of the metrics that *every* member reported: `members` is silo → (weight, metrics).

    A metric that only some report is dropped: its mean would be about those few. So is one whose mean overflows: what
    is not finite has no place in a model's metadata, and one silo could so keep all others from reading it.
    """
    reports = [metrics for _, metrics in members.values()]
    names = set.intersection(*(set(metrics) for metrics in reports)) if reports else set()
    total = sum(weight for weight, _ in members.values())
    means = {name: sum(weight * metrics[name] for weight, metrics in members.values()) / total for name in names}
    return {name: mean for name, mean in sorted(means.items()) if math.isfinite(mean)}
