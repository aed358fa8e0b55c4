"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378, Algorithm 1), from one vector a silo.

The paper's silo sends y_i − x and c_i⁺ − c_i. With plain SGD steps y ← y − η (g − c_i + c) and option II,
c_i⁺ = Σ_k η_k g_k / Σ_k η_k, the first follows from the second:

    y_i − x = −Σ_k η_k (g_k − c_i + c) = −(Σ_k η_k) (c_i⁺ − c_i + c)

so q_i = c_i⁺ − c_i is all that travels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from appliance.enclave.buffers import Scratch
from appliance.enclave.strategies.base import Cohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold:
    """Lines 16 and 17 of Algorithm 1, weighted; w and H_i = Σ_k η_k are silo i's, S the realised cohort.

    Δx = −Σ_S w_i H_i (q_i + c) / Σ_S w_i,   x ← x + η_g Δx
    c ← c + Σ_S p_i q_i,   p_i = w_i / Σ_all w     (uniform weights: |S|/N times the mean)

    p_i is over *all* silos: Σ_all p_i c_i = c holds from round to round, and with |S| in place of N it would not.
    """

    server_learning_rate: float

    @property
    def has_control(self) -> bool:
        return True

    def combine(
        self, model: Tensor, control: Tensor | None, updates: Sequence[Tensor], cohort: Cohort, scratch: Scratch
    ) -> None:
        """One chunk of x and of c."""
        if control is None:
            raise ValueError("SCAFFOLD: expected a control variate (zeros at first), found none")
        moved, controls, term = scratch.take(model.numel())
        # H_i = H − (H − H_i): a silo that took the longest way, as all do who finish their steps, costs no second sum.
        longest = max(cohort.step_size_sums)
        moved.zero_()
        controls.zero_()
        for update, weight, step_sizes in zip(updates, cohort.weights, cohort.step_size_sums, strict=True):
            term.copy_(update)
            term.mul_(weight)
            controls.add_(term)
            if step_sizes != longest:
                term.mul_(step_sizes - longest)
                moved.add_(term)
        # Now controls = Σ w_i q_i and moved = Σ w_i (H_i − H) q_i; H Σ w_i q_i and c Σ w_i H_i are still to come.
        term.copy_(controls)
        term.mul_(longest)
        moved.add_(term)
        term.copy_(control)
        controls.mul_(1 / cohort.total_weight)
        controls.add_(term)
        control.copy_(controls)
        term.mul_(_weighted_step_sizes(cohort))
        moved.add_(term)
        moved.mul_(-self.server_learning_rate / cohort.weight)
        term.copy_(model)
        moved.add_(term)
        model.copy_(moved)


def _weighted_step_sizes(cohort: Cohort) -> float:
    total = 0.0
    for weight, step_sizes in zip(cohort.weights, cohort.step_size_sums, strict=True):
        total += weight * step_sizes
    return total
