"""SCAFFOLD's local steps around the user's own SGD: exact displacement, exact controls, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from protocol.agreement_terms import Strategy
from silo_client.optimizer import RoundTerms, ScaffoldOptimizer, TrainingError

torch.set_num_threads(1)


def terms(steps: int = 5, rate: float = 0.1) -> RoundTerms:
    return RoundTerms(number=3, strategy=Strategy.SCAFFOLD, local_steps=steps, learning_rate=rate, proximal_mu=None)


class Run:
    """A model in float64-checkable shape: two parameters, one of which may miss its gradient."""

    def __init__(self, *, steps: int = 5, rate: float = 0.1, correct: bool = True, **sgd: object) -> None:
        torch.manual_seed(1)
        self.parameters = {"a": nn.Parameter(torch.randn(3, 2)), "b": nn.Parameter(torch.randn(4))}
        self.start = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.correction = {name: torch.randn_like(value) for name, value in self.start.items()} if correct else None
        self.sums = {name: torch.zeros_like(value) for name, value in self.start.items()}
        arguments = {"lr": rate, **sgd}
        self.sgd = torch.optim.SGD(self.parameters.values(), **arguments)  # type: ignore[arg-type]
        self.done: list[int] = []
        self.hooks = ScaffoldOptimizer(
            self.sgd,
            terms(steps, rate),
            self.parameters,
            self.done.append,
            correction=self.correction,
            gradient_sum=self.sums,
        )

    def gradients(self, step: int, skip: str | None = None) -> dict[str, Tensor]:
        torch.manual_seed(100 + step)
        found = {name: torch.randn_like(value) for name, value in self.start.items()}
        for name, parameter in self.parameters.items():
            parameter.grad = None if name == skip else found[name].clone()
        if skip is not None:
            found[skip].zero_()
        return found


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("skip", [None, "b"])
@pytest.mark.parametrize("foreach", [False, True])
def test_each_step_is_the_papers(decay: float, skip: str | None, foreach: bool) -> None:
    """y ← y − η (g + λy + c − c_i) and Σ η (g + λy); a parameter without gradient has g = 0, decay included."""
    run = Run(weight_decay=decay, foreach=foreach)
    assert run.correction is not None
    y = {name: value.double() for name, value in run.start.items()}
    total = {name: torch.zeros_like(value) for name, value in y.items()}
    for step in range(5):
        gradients = run.gradients(step, skip)
        rate = 0.1 / (step + 1)
        run.sgd.param_groups[0]["lr"] = rate
        run.sgd.step()
        for name, value in y.items():
            g = gradients[name].double()
            if name != skip:
                g = g + decay * value
            total[name] += rate * g
            y[name] = value - rate * (g + run.correction[name].double())
    run.hooks.detach()
    for name, value in y.items():
        close(run.parameters[name].detach(), value)
        close(run.sums[name], total[name])
    assert run.hooks.steps == 5
    assert run.hooks.step_size_sum == pytest.approx(0.1 * (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5))


def test_one_vector_gives_the_displacement_exactly() -> None:
    """y − x = −Σ η (d_i + c), where d_i = Σ η g / Σ η − c_i: all that the enclave needs."""
    run = Run(weight_decay=0.1)
    assert run.correction is not None
    c = {name: torch.randn_like(value) for name, value in run.start.items()}
    c_i = {name: c[name] - run.correction[name] for name in c}
    for step in range(5):
        run.gradients(step, skip="a" if step % 2 else None)
        run.sgd.step()
    run.hooks.detach()
    for name in run.start:
        d_i = run.sums[name] / run.hooks.step_size_sum - c_i[name]
        close(run.parameters[name].detach() - run.start[name], -run.hooks.step_size_sum * (d_i + c[name]))


def test_without_controls_it_is_plain_sgd_to_the_bit() -> None:
    run, plain = Run(correct=False), Run(correct=False)
    plain.hooks.detach()
    for step in range(5):
        for each in (run, plain):
            each.gradients(step)
            each.sgd.step()
    assert all(torch.equal(run.parameters[name], plain.parameters[name]) for name in run.parameters)


def test_gradients_stay_what_backward_made_them() -> None:
    run = Run()
    gradients = run.gradients(0, skip="b")
    run.sgd.step()
    assert torch.equal(run.parameters["a"].grad, gradients["a"])  # type: ignore[arg-type]
    assert run.parameters["b"].grad is None


def test_a_closure_is_called_once_and_its_loss_comes_back() -> None:
    run, plain = Run(), Run()
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        run.gradients(0)
        return torch.tensor(7.0)

    assert run.sgd.step(closure) == 7.0
    plain.gradients(0)
    plain.sgd.step()
    assert calls == [1]
    for name in run.start:
        assert torch.equal(run.parameters[name], plain.parameters[name])
        assert torch.equal(run.sums[name], plain.sums[name])


def test_a_closure_that_fails_leaves_the_sums_as_they_were() -> None:
    run = Run()

    def closure() -> Tensor:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError):
        run.sgd.step(closure)
    run.gradients(0)
    run.sgd.step()
    assert run.hooks.steps == 1


def test_the_users_schedulers_work() -> None:
    run = Run()
    scheduler = torch.optim.lr_scheduler.StepLR(run.sgd, step_size=1, gamma=0.5)
    for step in range(3):
        run.gradients(step)
        run.sgd.step()
        scheduler.step()
    assert run.hooks.step_size_sum == pytest.approx(0.1 + 0.05 + 0.025)


def test_groups_may_differ_in_weight_decay() -> None:
    torch.manual_seed(0)
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([{"params": [first], "weight_decay": 0.5}, {"params": [second]}], lr=0.1)
    sums = {"a": torch.zeros(2), "b": torch.zeros(2)}
    ScaffoldOptimizer(sgd, terms(), {"a": first, "b": second}, lambda done: None, correction=None, gradient_sum=sums)
    first.grad, second.grad = torch.zeros(2), torch.zeros(2)
    sgd.step()
    close(sums["a"], torch.full((2,), 0.05))
    close(sums["b"], torch.zeros(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_parameters_are_summed_in_float32(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=dtype))
    sgd = torch.optim.SGD([parameter], lr=0.1)
    total = {"a": torch.zeros(3)}
    hooks = ScaffoldOptimizer(
        sgd, terms(), {"a": parameter}, lambda done: None, correction={"a": torch.ones(3)}, gradient_sum=total
    )
    parameter.grad = torch.full((3,), 0.5, dtype=dtype)
    sgd.step()
    hooks.detach()
    close(total["a"], torch.full((3,), 0.05))
    torch.testing.assert_close(parameter.detach().float(), torch.full((3,), 1 - 0.05 - 0.1), rtol=1e-2, atol=1e-2)


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "found"),
        [
            (lambda p: torch.optim.Adam(p, lr=0.1), "found Adam"),
            (lambda p: torch.optim.AdamW(p, lr=0.1), "found AdamW"),
            (lambda p: torch.optim.LBFGS(p, lr=0.1), "found LBFGS"),
            (lambda p: type("MySGD", (torch.optim.SGD,), {})(p, lr=0.1), "found MySGD"),
            (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "found momentum = 0.9"),
            (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "found momentum = 0.9"),
            (lambda p: torch.optim.SGD(p, lr=0.1, maximize=True), "found maximize = True"),
        ],
    )
    def test_anything_but_plain_sgd(
        self, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], found: str
    ) -> None:
        parameter = nn.Parameter(torch.zeros(2))
        with pytest.raises(TrainingError, match=f"round 3: .*{found}.*use torch.optim.SGD") as error:
            ScaffoldOptimizer(
                make([parameter]),
                terms(),
                {"a": parameter},
                lambda done: None,
                correction=None,
                gradient_sum={"a": torch.zeros(2)},
            )
        assert 'strategy = "fedavg"' in str(error.value)

    def test_momentum_that_a_scheduler_switches_on(self) -> None:
        run = Run()
        run.sgd.param_groups[0]["momentum"] = 0.9
        run.gradients(0)
        with pytest.raises(TrainingError, match="expected SGD without momentum"):
            run.sgd.step()

    def test_a_step_too_many(self) -> None:
        run = Run(steps=2)
        for step in range(2):
            run.gradients(step)
            run.sgd.step()
        before = run.parameters["a"].detach().clone()
        with pytest.raises(TrainingError, match="round 3: expected at most local_steps = 2 steps, found step 3"):
            run.sgd.step()
        assert torch.equal(run.parameters["a"], before)

    def test_a_longer_way_than_agreed(self) -> None:
        run = Run(steps=5, rate=0.1)
        run.sgd.param_groups[0]["lr"] = 0.3
        run.gradients(0)
        run.sgd.step()
        with pytest.raises(
            TrainingError,
            match=r"at most local_steps × learning_rate = 0\.5, found 0\.6 at step 2; use lr=round\.learning_rate",
        ):
            run.sgd.step()

    def test_two_learning_rates_in_one_step(self) -> None:
        first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        sgd = torch.optim.SGD([{"params": [first], "lr": 0.05}, {"params": [second]}], lr=0.1)
        sums = {"a": torch.zeros(2), "b": torch.zeros(2)}
        ScaffoldOptimizer(
            sgd, terms(), {"a": first, "b": second}, lambda done: None, correction=None, gradient_sum=sums
        )
        with pytest.raises(
            TrainingError, match=r"expected one learning rate for all parameter groups.*found 0\.05, 0\.1"
        ):
            sgd.step()

    def test_parameters_that_are_added_later(self) -> None:
        run = Run()
        extra = nn.Parameter(torch.ones(2))
        extra.grad = torch.ones(2)
        run.sgd.add_param_group({"params": [extra]})
        run.gradients(0)
        with pytest.raises(TrainingError, match="expected the optimizer's parameters to stay the same"):
            run.sgd.step()

    def test_a_fused_optimizer_under_a_gradient_scaler(self) -> None:
        run = Run()
        run.gradients(0)
        run.sgd.grad_scale = torch.tensor(2.0)  # type: ignore[attr-defined]  what GradScaler sets
        with pytest.raises(TrainingError, match="found a fused optimizer under GradScaler; use fused=False"):
            run.sgd.step()

    def test_going_on_after_a_step_that_failed_half_way(self) -> None:
        run = Run()
        run.gradients(0)
        run.sgd.param_groups[0]["weight_decay"] = "much"
        with pytest.raises((ValueError, TypeError)):
            run.sgd.step()
        run.sgd.param_groups[0]["weight_decay"] = 0
        with pytest.raises(TrainingError, match="an earlier step failed half-way"):
            run.sgd.step()


def test_detached_hooks_leave_the_optimizer_alone() -> None:
    run = Run(steps=1)
    run.gradients(0)
    run.sgd.step()
    run.hooks.detach()
    run.hooks.detach()
    run.sgd.step()
    assert run.hooks.steps == 1
    assert run.done == [1]
