"""The weighted mean, and the maximum: what FedAvg does to parameters and every strategy to buffers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from appliance.enclave.strategies.base import Cohort


def weighted_sum(updates: Sequence[Tensor], cohort: Cohort, total: Tensor, term: Tensor) -> None:
    """total ← Σ w_i u_i in float64, in order; `term` is overwritten."""
    total.zero_()
    for update, weight in zip(updates, cohort.weights, strict=True):
        term.copy_(update)
        term.mul_(weight)
        total.add_(term)


def weighted_mean_into(out: Tensor, updates: Sequence[Tensor], cohort: Cohort, total: Tensor, term: Tensor) -> None:
    """out ← Σ w_i u_i / Σ w_i: the rule of float buffers (batch-norm statistics)."""
    weighted_sum(updates, cohort, total, term)
    total.div_(cohort.weight)
    out.copy_(total)


def maximum_into(out: Tensor, updates: Sequence[Tensor]) -> None:
    """out ← max u_i: the rule of integer buffers (counters), which have no mean."""
    out.copy_(updates[0])
    for update in updates[1:]:
        torch.maximum(out, update, out=out)
