"""FedAvg (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1) with a server learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from appliance.enclave.buffers import Scratch
from appliance.enclave.strategies.base import Cohort
from appliance.enclave.strategies.mean import weighted_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAvg:
    """x ← x + η_g Σ w_i δ_i / Σ w_i, where δ_i = y_i − x and both sums are over the cohort.

    With η_g = 1 this is Algorithm 1's w_{t+1} ← Σ (n_k / m_t) w_{t+1}^k, with w_i in place of n_k; η_g is that of
    Reddi et al. 2021 (arXiv 2003.00295, Algorithm 1, server SGD) and of Karimireddy et al. 2020 (Algorithm 1).
    """

    server_learning_rate: float

    @property
    def has_control(self) -> bool:
        return False

    def combine(
        self, model: Tensor, control: Tensor | None, updates: Sequence[Tensor], cohort: Cohort, scratch: Scratch
    ) -> None:
        """One chunk of x; there is no control."""
        total, term, _ = scratch.take(model.numel())
        weighted_sum(updates, cohort, total, term)
        total.mul_(self.server_learning_rate / cohort.weight)
        term.copy_(model)
        total.add_(term)
        model.copy_(total)
