"""Local training as the round's strategy needs it, around the user's own optimizer.

`round.local_optimizer` takes a torch optimizer and gives the same object back, with hooks on its `step`: schedulers,
closures and `isinstance` go on working, and gradients stay what `backward` made them.

    FedAvg     any optimizer; steps and step sizes are counted
    FedProx    any optimizer; g + μ (y − x) takes the gradient's place for the step
    SCAFFOLD   plain SGD; −η (c − c_i) is added after each step, Σ η g is kept

A parameter without a gradient in a step has g = 0: torch skips it, weight decay included, and the hooks do the rest.
`Round` calls this; nothing here comes from outside but vectors of bodies that were checked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from protocol.agreement_terms import Strategy
from protocol.errors import ProtocolError

_ROUNDING = 1e-9
_PLAIN_SGD = (
    "SCAFFOLD's correction is exact for plain SGD only; use torch.optim.SGD(model.parameters(), "
    'lr=round.learning_rate), without momentum, or agree on strategy = "fedavg" or "fedprox"'
)
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class TrainingError(ProtocolError):
    """The training loop does what the round's terms or mathematics forbid; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTerms:
    """What a round asks of local training: at most K steps, whose η sum to at most K times `learning_rate`."""

    number: int
    strategy: Strategy
    local_steps: int
    learning_rate: float
    proximal_mu: float | None

    def error(self, message: str) -> TrainingError:
        """The error, naming the round."""
        return TrainingError(f"round {self.number}: {message}")


class LocalOptimizer:
    """The hooks on one optimizer for one round: FedAvg, which only counts, and the frame for the others."""

    def __init__(
        self,
        optimizer: Optimizer,
        terms: RoundTerms,
        parameters: Mapping[str, nn.Parameter],
        on_step: Callable[[int], None],
    ) -> None:
        """`parameters`: the optimizer's, by their names in the layout (may be empty where nothing is done to them)."""
        self.parameters = dict(parameters)
        self.steps = 0
        self.step_size_sum = 0.0
        self._optimizer = optimizer
        self._terms = terms
        self._on_step = on_step
        self._rate: float | None = None
        self._taken = False
        self._handles = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )

    def detach(self) -> None:
        """Take the hooks off the user's optimizer; may be called twice."""
        for handle in self._handles:
            handle.remove()

    # What a strategy does at each step

    def check_groups(self, groups: list[dict[str, Any]]) -> float:
        """The step size of the step that is about to happen; raises `TrainingError` if the strategy forbids it."""
        return max((float(group.get("lr", self._terms.learning_rate)) for group in groups), default=0.0)

    def take_gradients(self, rate: float) -> None:
        """The gradients of the step are known and the parameters not changed yet."""

    def finish_step(self, rate: float) -> None:
        """The optimizer has changed the parameters."""

    def loss_term(self) -> Tensor | None:
        """What the strategy adds to the objective, for optimizers that compare losses."""
        return None

    # The frame

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments | None:
        if self._taken:
            raise self._terms.error(
                "an earlier step failed half-way, and what it did to the sums can't be undone; "
                "let its error end the training and start again"
            )
        self._rate = self._checked_rate(optimizer)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._take(self._rate)
            return None
        return (args[0], self._evaluating(closure, self._rate)), {}

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rate, self._rate = self._rate, None
        if rate is None or not self._taken:
            raise self._terms.error("the optimizer made a step without calling its closure")
        with torch.no_grad():
            self.finish_step(rate)
        self._taken = False
        self.steps += 1
        self.step_size_sum += rate
        self._on_step(self.steps)

    def _take(self, rate: float) -> None:
        self._taken = True
        with torch.no_grad():
            self.take_gradients(rate)

    def _evaluating(self, closure: Callable[[], Any], rate: float) -> Callable[[], Any]:
        """The user's closure; the gradients exist only once it has run."""

        def evaluate() -> Any:
            loss = closure()
            self._take(rate)
            term = self.loss_term()
            return loss if term is None or loss is None else loss + term

        return evaluate

    def _checked_rate(self, optimizer: Optimizer) -> float:
        terms = self._terms
        rate = self.check_groups(optimizer.param_groups)
        if getattr(optimizer, "grad_scale", None) is not None:
            raise terms.error(
                "expected gradients in their own scale, found a fused optimizer under GradScaler; use fused=False"
            )
        if self.steps >= terms.local_steps:
            raise terms.error(
                f"expected at most local_steps = {terms.local_steps} steps, found step {self.steps + 1}; "
                "make round.local_steps steps, then submit"
            )
        limit = terms.local_steps * terms.learning_rate
        if self.step_size_sum + rate > limit * (1 + _ROUNDING):
            raise terms.error(
                f"expected step sizes that sum to at most local_steps × learning_rate = {limit:g}, "
                f"found {self.step_size_sum + rate:g} at step {self.steps + 1}; use lr=round.learning_rate or less"
            )
        return rate


class ProximalOptimizer(LocalOptimizer):
    """FedProx: each step sees g + μ (y − x), the gradient of f(y) + μ/2 ‖y − x‖² (Li et al. 2020, Algorithm 2)."""

    def __init__(
        self,
        optimizer: Optimizer,
        terms: RoundTerms,
        parameters: Mapping[str, nn.Parameter],
        on_step: Callable[[int], None],
        *,
        mu: float,
        start: Mapping[str, Tensor],
    ) -> None:
        """`start`: x by parameter."""
        super().__init__(optimizer, terms, parameters, on_step)
        self._mu = mu
        self._start = _beside(start, self.parameters)
        self._raw: dict[str, Tensor | None] = {}

    def take_gradients(self, rate: float) -> None:
        """Swap each gradient for the proximal one; the user's own is given back after the step."""
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            pull = (parameter.detach() - self._start[name]).mul_(self._mu).to(parameter.dtype)
            self._raw[name] = gradient
            parameter.grad = pull if gradient is None else pull.add_(gradient)

    def finish_step(self, rate: float) -> None:
        """Give the raw gradients back."""
        for name, gradient in self._raw.items():
            self.parameters[name].grad = gradient
        self._raw.clear()

    def loss_term(self) -> Tensor | None:
        """μ/2 ‖y − x‖²."""
        with torch.no_grad():
            squares = [(y.detach() - self._start[name]).square().sum().cpu() for name, y in self.parameters.items()]
            return torch.stack(squares).sum() * (self._mu / 2)


class ScaffoldOptimizer(LocalOptimizer):
    """SCAFFOLD (Karimireddy et al. 2020, Algorithm 1): y ← y − η (g − c_i + c), and the sums for c_i⁺.

    Option II as c_i⁺ = Σ_k η_k g_k / Σ_k η_k over the raw gradients, weight decay included, which holds for any step
    sizes. So y − x = −Σ η (d_i + c) with d_i = c_i⁺ − c_i, and d_i is all that travels.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        terms: RoundTerms,
        parameters: Mapping[str, nn.Parameter],
        on_step: Callable[[int], None],
        *,
        correction: Mapping[str, Tensor] | None,
        gradient_sum: Mapping[str, Tensor],
    ) -> None:
        """`correction`: c − c_i by parameter, None while it is zero; `gradient_sum`: float32 zeros that take Σ η g."""
        require_plain_sgd(optimizer, terms)
        super().__init__(optimizer, terms, parameters, on_step)
        self._home = dict(gradient_sum)
        self._correction = {} if correction is None else _beside(correction, self.parameters)
        self._sums = _beside(gradient_sum, self.parameters)
        self._names = {id(parameter): name for name, parameter in self.parameters.items()}

    def detach(self) -> None:
        """Take the hooks off, and bring Σ η g home from the parameters' devices."""
        super().detach()
        for name, home in self._home.items():
            if self._sums[name] is not home:
                home.copy_(self._sums[name])

    def check_groups(self, groups: list[dict[str, Any]]) -> float:
        """The one step size of all groups; momentum may have been switched on since (by a scheduler, say)."""
        for group in groups:
            _require_plain(group, self._terms)
        rates = {float(group["lr"]) for group in groups}
        if len(rates) != 1:
            shown = ", ".join(f"{rate:g}" for rate in sorted(rates))
            raise self._terms.error(
                f"expected one learning rate for all parameter groups in a step, found {shown}; "
                "SCAFFOLD weighs a silo's whole step by it"
            )
        if sum(len(group["params"]) for group in groups) < len(self.parameters):
            raise self._terms.error("expected the optimizer's parameters to stay the same through the round")
        return rates.pop()

    def take_gradients(self, rate: float) -> None:
        """Σ η g, where g is what SGD is about to use: the raw gradient and the weight decay."""
        for group in self._optimizer.param_groups:
            decay = float(group["weight_decay"])
            for parameter in group["params"]:
                name = self._names.get(id(parameter))
                if name is None:
                    if parameter.grad is not None:
                        raise self._terms.error(
                            "expected the optimizer's parameters to stay the same through the round"
                        )
                    continue
                if parameter.grad is None:
                    continue
                self._sums[name].add_(parameter.grad, alpha=rate)
                if decay:
                    self._sums[name].add_(parameter.detach(), alpha=rate * decay)

    def finish_step(self, rate: float) -> None:
        """y ← y − η (c − c_i), for every parameter, whether it had a gradient or not."""
        for name, correction in self._correction.items():
            self.parameters[name].add_(correction, alpha=-rate)


def require_plain_sgd(optimizer: Optimizer, terms: RoundTerms) -> None:
    """Raise `TrainingError` unless this is torch's own SGD without momentum, as SCAFFOLD needs it."""
    if type(optimizer) is not SGD:
        raise terms.error(f"expected torch.optim.SGD, found {type(optimizer).__name__}; {_PLAIN_SGD}")
    for group in optimizer.param_groups:
        _require_plain(group, terms)


def _require_plain(group: Mapping[str, Any], terms: RoundTerms) -> None:
    for setting in ("momentum", "nesterov", "maximize"):
        if group[setting]:
            raise terms.error(f"expected SGD without {setting}, found {setting} = {group[setting]}; {_PLAIN_SGD}")


def _beside(vectors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The float32 vectors where the parameters are; without a copy if that is the CPU."""
    return {name: vectors[name].to(parameter.device) for name, parameter in parameters.items()}
