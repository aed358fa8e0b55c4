"""What a strategy is given and what it must do.

Everything is coordinate-wise, in place, and in float64 from float32 inputs: multiply, then add, never fused
(`add_(…, alpha=…)` may fuse on one machine and not on another), silos in the agreement's order. So the same inputs
give the same bits everywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from appliance.enclave.buffers import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """The scalars of a round's members, in the agreement's order.

    `weights`: w_i; `step_size_sums`: Σ_k η_k of each; `total_weight`: Σ w over *all* silos of the agreement, present
    or not. The cohort is the realised one: whose update is merged, not who was invited.
    """

    weights: tuple[float, ...]
    step_size_sums: tuple[float, ...]
    total_weight: float

    def __post_init__(self) -> None:
        scalars = (*self.weights, *self.step_size_sums, self.total_weight)
        if not self.weights or len(self.weights) != len(self.step_size_sums):
            raise ValueError("cohort: expected at least one member, and a step-size sum for each weight")
        if not all(math.isfinite(value) and value > 0 for value in scalars):
            raise ValueError("cohort: expected positive finite weights and step-size sums")

    @property
    def weight(self) -> float:
        """Σ w over the members."""
        return math.fsum(self.weights)


class Strategy(Protocol):
    """A rule for the trainable parameters."""

    @property
    def has_control(self) -> bool:
        """Whether the server keeps a control variate c."""

    def combine(
        self, model: Tensor, control: Tensor | None, updates: Sequence[Tensor], cohort: Cohort, scratch: Scratch
    ) -> None:
        """Overwrite one chunk of x (and of c, where there is one) with its next value.

        `model`, `control`, each of `updates`: float32 vectors of one length; `updates` in the cohort's order.
        """
