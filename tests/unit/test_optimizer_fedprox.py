"""FedProx and FedAvg around any optimizer: the proximal gradient, counted steps, untouched gradients."""

import pytest
import torch
from torch import Tensor, nn

from protocol.agreement_terms import Strategy
from silo_client.optimizer import LocalOptimizer, ProximalOptimizer, RoundTerms, TrainingError

torch.set_num_threads(1)
MU = 0.7
TERMS = RoundTerms(number=2, strategy=Strategy.FEDPROX, local_steps=4, learning_rate=0.5, proximal_mu=MU)


def proximal(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, start: Tensor) -> ProximalOptimizer:
    return ProximalOptimizer(optimizer, TERMS, {"a": parameter}, lambda done: None, mu=MU, start={"a": start})


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_sees_the_proximal_gradient(name: str) -> None:
    """The same steps as the plain optimizer on f(y) + μ/2 ‖y − x‖², for f with the gradient y² − 1."""
    start = torch.tensor([0.5, -2.0, 3.0])
    y, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer, reference = OPTIMIZERS[name]([y]), OPTIMIZERS[name]([plain])
    proximal(optimizer, y, start)
    for _ in range(4):
        y.grad = y.detach().square() - 1
        optimizer.step()
        plain.grad = plain.detach().square() - 1 + MU * (plain.detach() - start)
        reference.step()
    torch.testing.assert_close(y, plain)


def test_a_parameter_without_gradient_is_pulled_home() -> None:
    start = torch.zeros(2)
    y = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([y], lr=0.5)
    proximal(optimizer, y, start)
    optimizer.step()
    torch.testing.assert_close(y.detach(), torch.full((2,), 1 - 0.5 * MU))
    assert y.grad is None


def test_gradients_stay_what_backward_made_them() -> None:
    y = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([y], lr=0.1)
    proximal(optimizer, y, torch.zeros(2))
    gradient = torch.tensor([1.0, 2.0])
    y.grad = gradient
    optimizer.step()
    assert y.grad is gradient
    assert gradient.tolist() == [1.0, 2.0]


def test_an_optimizer_that_evaluates_often_gets_the_proximal_loss() -> None:
    """L-BFGS on ½‖y − 3‖² with μ/2 ‖y‖²: the optimum is 3 / (1 + μ)."""
    y = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.LBFGS([y], lr=0.5, max_iter=50, line_search_fn="strong_wolfe")
    hooks = proximal(optimizer, y, torch.zeros(2))
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (y - 3).square().sum() / 2
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(4):
        optimizer.step(closure)
    torch.testing.assert_close(y.detach(), torch.full((2,), 3 / (1 + MU)), rtol=1e-4, atol=1e-4)
    assert len(losses) > hooks.steps == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fedavg_changes_nothing_and_counts(name: str) -> None:
    y, plain = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer, reference = OPTIMIZERS[name]([y]), OPTIMIZERS[name]([plain])
    done: list[int] = []
    hooks = LocalOptimizer(optimizer, TERMS, {}, done.append)
    for step in range(4):
        y.grad = torch.full((3,), float(step))
        plain.grad = torch.full((3,), float(step))
        optimizer.step()
        reference.step()
    assert torch.equal(y, plain)
    assert (hooks.steps, hooks.step_size_sum, done) == (4, pytest.approx(0.4), [1, 2, 3, 4])


def test_the_largest_step_size_of_a_step_counts() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([{"params": [first], "lr": 0.01}, {"params": [second]}], lr=0.2)
    hooks = LocalOptimizer(optimizer, TERMS, {}, lambda done: None)
    optimizer.step()
    assert hooks.step_size_sum == 0.2


@pytest.mark.parametrize("kind", ["fedavg", "fedprox"])
def test_steps_and_step_sizes_are_bounded_for_every_strategy(kind: str) -> None:
    y = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([y], lr=0.4)
    if kind == "fedavg":
        LocalOptimizer(optimizer, TERMS, {}, lambda done: None)
    else:
        proximal(optimizer, y, torch.ones(2))
    for _ in range(4):
        optimizer.step()
    with pytest.raises(TrainingError, match="round 2: expected at most local_steps = 4 steps"):
        optimizer.step()


def test_a_longer_way_than_agreed() -> None:
    y = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([y], lr=2.5)
    LocalOptimizer(optimizer, TERMS, {}, lambda done: None)
    with pytest.raises(TrainingError, match="expected step sizes that sum to at most .* = 2, found 2.5 at step 1"):
        optimizer.step()
