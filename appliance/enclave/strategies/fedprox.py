"""FedProx (Li et al. 2020, arXiv 1812.06127, Algorithm 2)."""

from dataclasses import dataclass

from appliance.enclave.strategies.fedavg import FedAvg


@dataclass(frozen=True, slots=True, kw_only=True)
class FedProx(FedAvg):
    """The server's step is FedAvg's. What differs is the silo's objective, F_k(w) + (μ/2) ‖w − wᵗ‖² (equation 2)."""
