"""One round, as the user's code sees it: a model to load, an optimizer to wrap, a trained model to submit.

What reaches the user was verified by `SiloMachine` and `open_body`. A round is used by one thread.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from audit.entries import RoundOpened
from protocol.agreement import Agreement
from protocol.agreement_terms import Strategy
from protocol.errors import MalformedError
from protocol.layout import Layout, Section
from protocol.update import UpdateMetadata
from silo_client.matching import match_parameters, require_same
from silo_client.model import Sections, parameter_views, sections_of, state_dict_from
from silo_client.optimizer import (
    LocalOptimizer,
    ProximalOptimizer,
    RoundTerms,
    ScaffoldOptimizer,
    require_plain_sgd,
)

_Optimizer = TypeVar("_Optimizer", bound=Optimizer)
_BUFFERS = (Section.FLOAT_BUFFERS, Section.INTEGER_BUFFERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedUpdate:
    """What a round's training comes to: the update's sections, c_i⁺ where there is one, and how it was trained."""

    sections: Sections
    control: Tensor | None
    metadata: UpdateMetadata


class Round:
    """One attempt at a round."""

    def __init__(
        self,
        *,
        entry: RoundOpened,
        agreement: Agreement,
        layout: Layout,
        model: Sections,
        control: Tensor | None,
        own_control: Tensor | None,
        metrics: Mapping[str, float],
        deliver: Callable[["Round", TrainedUpdate], None],
        on_step: Callable[[int, int, int], None],
    ) -> None:
        """`model` is x; `control` is c and `own_control` c_i (each None while it is zero, and without SCAFFOLD)."""
        self.entry = entry
        self.number = entry.round
        self.attempt = entry.attempt
        self.local_steps = entry.local_steps
        self.learning_rate = entry.learning_rate
        self.metrics = dict(metrics)
        self.submitted = False
        self._layout = layout
        self._model = model
        self._control = control
        self._own_control = own_control
        self._gradient_sum: Tensor | None = None
        self._deliver = deliver
        self._on_step = on_step
        self._training: LocalOptimizer | None = None
        self._terms = RoundTerms(
            number=entry.round,
            strategy=Strategy(entry.strategy),
            local_steps=entry.local_steps,
            learning_rate=entry.learning_rate,
            proximal_mu=agreement.training.proximal_mu,
        )

    @property
    def steps(self) -> int:
        """Local steps made so far."""
        return 0 if self._training is None else self._training.steps

    def state_dict(self) -> dict[str, Tensor]:
        """The round's model, for `model.load_state_dict`; copies, in the model's own shapes and dtypes."""
        if not self._model:
            raise self._terms.error("expected round.state_dict() before round.submit(…): the round is over")
        return state_dict_from(self._layout, self._model)

    def local_optimizer(self, optimizer: _Optimizer) -> _Optimizer:
        """Prepare a torch optimizer over the loaded model for this round, and return it.

        SCAFFOLD takes plain `torch.optim.SGD`; FedAvg and FedProx any optimizer. Raises `TrainingError` for what the
        strategy forbids, and if the optimizer's parameters aren't the model's trainable ones with the round's values.
        """
        terms = self._terms
        if self.submitted or self._training is not None:
            raise terms.error("expected one call of round.local_optimizer(…), found a second one")
        if terms.strategy is Strategy.SCAFFOLD:
            require_plain_sgd(optimizer, terms)
        self._training = self._wrap(optimizer)
        return optimizer

    def submit(self, model: nn.Module, metrics: Mapping[str, float | Tensor] | None = None) -> None:
        """Seal what was trained, keep it, and send it; returns once the appliance has taken it.

        `metrics`: at most 32 finite numbers, told to the enclave only, which publishes weighted means. Raises
        `TrainingError` or `ModelError` for a misuse, and `RefusedError` if the appliance refuses the update. If the
        attempt ended meanwhile, nothing is sent, and `rounds()` goes on with the next one.
        """
        training = self._ready()
        if training.parameters:
            require_same(training.parameters, model, self._terms)
        wanted = _BUFFERS if self._terms.strategy is Strategy.SCAFFOLD else (Section.PARAMETERS, *_BUFFERS)
        sections = sections_of(model, self._layout, wanted)
        metadata = self._metadata(training, metrics or {})
        training.detach()
        self.submitted = True
        try:
            update = self._update(sections, training, metadata)
            _require_finite(update, self._terms)
            self._deliver(self, update)
        finally:
            self.close()

    def skip(self) -> None:
        """Sit this round out: nothing is sent, and the others go on at the deadline. The silo still cosigns."""
        if self.submitted:
            raise self._terms.error("expected round.skip() in place of round.submit(…), found it after that")
        self.submitted = True
        self.close()

    def close(self) -> None:
        """Take the hooks off the user's optimizer and let the vectors go."""
        if self._training is not None:
            self._training.detach()
        self._model, self._control, self._own_control, self._gradient_sum = {}, None, None, None

    def _wrap(self, optimizer: Optimizer) -> LocalOptimizer:
        terms = self._terms
        if terms.strategy is Strategy.FEDAVG:
            return LocalOptimizer(optimizer, terms, {}, self._stepped)
        start = parameter_views(self._layout, self._model[Section.PARAMETERS])
        parameters = match_parameters(optimizer, start, terms)
        if terms.proximal_mu is not None:
            return ProximalOptimizer(optimizer, terms, parameters, self._stepped, mu=terms.proximal_mu, start=start)
        self._gradient_sum = torch.zeros_like(self._model[Section.PARAMETERS])
        correction = self._correction()
        return ScaffoldOptimizer(
            optimizer,
            terms,
            parameters,
            self._stepped,
            correction=None if correction is None else parameter_views(self._layout, correction),
            gradient_sum=parameter_views(self._layout, self._gradient_sum),
        )

    def _correction(self) -> Tensor | None:
        """c − c_i, in c's place; None while both are zero."""
        if self._control is None:
            return None if self._own_control is None else self._own_control.neg()
        return self._control if self._own_control is None else self._control.sub_(self._own_control)

    def _stepped(self, done: int) -> None:
        self._on_step(self.number, done, self.local_steps)

    def _ready(self) -> LocalOptimizer:
        terms, training = self._terms, self._training
        if self.submitted:
            raise terms.error("expected one call of round.submit(…), found a second one; go on with the next round")
        if training is None:
            raise terms.error(
                "expected round.local_optimizer(optimizer) before round.submit(…), found no call of it; "
                "train with the optimizer that it returns"
            )
        if training.steps == 0:
            raise terms.error("expected at least one step of the local optimizer before round.submit(…), found none")
        if training.step_size_sum <= 0:
            raise terms.error("expected steps with a learning rate above 0, found 0 in every step")
        return training

    def _metadata(self, training: LocalOptimizer, metrics: Mapping[str, float | Tensor]) -> UpdateMetadata:
        try:
            return UpdateMetadata(
                steps=training.steps,
                step_size_sum=training.step_size_sum,
                metrics={name: _number(value) for name, value in metrics.items()},
            )
        except (MalformedError, TypeError, ValueError, RuntimeError) as error:
            raise self._terms.error(f"metrics: {error}") from error

    def _update(
        self, sections: dict[Section, Tensor], training: LocalOptimizer, metadata: UpdateMetadata
    ) -> TrainedUpdate:
        if self._gradient_sum is None:
            # FedAvg, FedProx: y − x.
            sections[Section.PARAMETERS].sub_(self._model[Section.PARAMETERS])
            return TrainedUpdate(sections=sections, control=None, metadata=metadata)
        # SCAFFOLD: d_i = Σ η g / Σ η − c_i; then c_i⁺ = c_i + d_i, so that both ends apply the same d_i.
        change = self._gradient_sum.div_(training.step_size_sum)
        after = torch.zeros_like(change) if self._own_control is None else self._own_control
        change.sub_(after)
        after.add_(change)
        return TrainedUpdate(sections={**sections, Section.PARAMETERS: change}, control=after, metadata=metadata)


def _number(value: float | Tensor) -> float:
    """A metric as the loop has it: a number, or a loss that still hangs on its graph."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def _require_finite(update: TrainedUpdate, terms: RoundTerms) -> None:
    for section, values in update.sections.items():
        if values.is_floating_point() and not math.isfinite(float(values.abs().sum(dtype=torch.float64))):
            raise terms.error(
                f"expected finite numbers, found NaN or infinity among the {section}; training diverged: lower the "
                "learning rate, or look at the data of this silo"
            )
