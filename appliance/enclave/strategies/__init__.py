"""The rules that turn a cohort's updates into the next model: pure functions of one chunk, one file each."""

from appliance.enclave.strategies.base import Cohort, Strategy
from appliance.enclave.strategies.registry import strategy_for

__all__ = ["Cohort", "Strategy", "strategy_for"]
