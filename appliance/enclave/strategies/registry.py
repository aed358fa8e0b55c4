"""Which strategy an agreement asks for."""

from appliance.enclave.strategies.base import Strategy
from appliance.enclave.strategies.fedavg import FedAvg
from appliance.enclave.strategies.fedprox import FedProx
from appliance.enclave.strategies.scaffold import Scaffold
from protocol import agreement_terms
from protocol.agreement_terms import Training

_STRATEGIES: dict[agreement_terms.Strategy, type[Scaffold] | type[FedAvg]] = {
    agreement_terms.Strategy.SCAFFOLD: Scaffold,
    agreement_terms.Strategy.FEDAVG: FedAvg,
    agreement_terms.Strategy.FEDPROX: FedProx,
}


def strategy_for(training: Training) -> Strategy:
    """The strategy of an agreement's `[training]`."""
    return _STRATEGIES[training.strategy](server_learning_rate=training.server_learning_rate)
