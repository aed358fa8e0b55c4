"""A round in the user's hands: which parameter is which, what goes up, and what each misuse says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from memory_federation import agreement_for
from torch import Tensor, nn

from audit.entries import RoundOpened
from protocol.agreement import Agreement
from protocol.layout import Section
from silo_client.model import ModelError, layout_of, parameter_views, sections_of
from silo_client.optimizer import TrainingError
from silo_client.rounds import Round, TrainedUpdate

torch.set_num_threads(1)
LEARNING_RATE, STEPS = 0.1, 10


class Net(nn.Module):
    """Two layers of one shape, batch norm with its counter, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.second = nn.Linear(3, 3)
        self.fixed = nn.Linear(3, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fixed(self.second(torch.tanh(self.norm(self.first(x)))))  # type: ignore[no-any-return]


def agreement_of(strategy: str) -> Agreement:
    text = f'strategy = "{strategy}"' + ("\nproximal_mu = 0.5" if strategy == "fedprox" else "")
    return agreement_for(layout_of(Net()), owners=("a", "b", "c", "d"), replace={'strategy = "scaffold"': text})


def opened(agreement: Agreement) -> RoundOpened:
    return RoundOpened(
        time=1,
        boot_id=bytes(32),
        round=4,
        attempt=1,
        round_key=b"",
        model=bytes(32),
        control=None,
        control_epoch=0,
        strategy=str(agreement.training.strategy),
        local_steps=STEPS,
        learning_rate=LEARNING_RATE,
        server_learning_rate=1.0,
        deadline_seconds=60,
    )


class Trial:
    """A round over a random model, and what it delivers."""

    def __init__(self, strategy: str = "scaffold", *, control: bool = True, own_control: bool = True) -> None:
        torch.manual_seed(5)
        self.model = Net()
        agreement, self.layout = agreement_of(strategy), layout_of(self.model)
        self.start = sections_of(Net(), self.layout)
        coordinates = self.layout.coordinates(Section.PARAMETERS)
        self.c = torch.randn(coordinates) if control else None
        self.c_i = torch.randn(coordinates) if own_control else None
        self.delivered: list[TrainedUpdate] = []
        self.steps: list[tuple[int, int, int]] = []
        self.round = Round(
            entry=opened(agreement),
            agreement=agreement,
            layout=self.layout,
            model={section: values.clone() for section, values in self.start.items()},
            control=None if self.c is None else self.c.clone(),
            own_control=None if self.c_i is None else self.c_i.clone(),
            metrics={"loss": 2.5},
            deliver=lambda _, update: self.delivered.append(update),
            on_step=lambda *args: self.steps.append(args),
        )

    def optimizer(self, parameters: Any = None, **arguments: object) -> torch.optim.SGD:
        return torch.optim.SGD(
            self.model.parameters() if parameters is None else parameters,
            lr=LEARNING_RATE,
            **arguments,  # type: ignore[arg-type]
        )

    def load(self) -> None:
        self.model.load_state_dict(self.round.state_dict())

    def train(self, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
        torch.manual_seed(9)
        for _ in range(steps):
            optimizer.zero_grad()
            self.model(torch.randn(8, 3)).square().sum().backward()
            optimizer.step()

    def run(self, **metrics: float | Tensor) -> TrainedUpdate:
        self.load()
        self.train(self.round.local_optimizer(self.optimizer()))
        self.round.submit(self.model, metrics)
        return self.delivered[0]


def moved(trial: Trial) -> Tensor:
    after = sections_of(trial.model, trial.layout, (Section.PARAMETERS,))[Section.PARAMETERS]
    return after.double() - trial.start[Section.PARAMETERS].double()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-5, atol=1e-5)


def test_the_round_shows_what_it_asks_for() -> None:
    found = Trial().round
    assert (found.number, found.attempt, found.local_steps, found.learning_rate) == (4, 1, STEPS, LEARNING_RATE)
    assert found.metrics == {"loss": 2.5}


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("own_control", [False, True])
def test_scaffold_sends_one_vector_from_which_the_displacement_follows(control: bool, own_control: bool) -> None:
    trial = Trial(control=control, own_control=own_control)
    update = trial.run(loss=torch.tensor(0.25, requires_grad=True))
    zeros = torch.zeros_like(trial.start[Section.PARAMETERS])
    c, c_i = (zeros if value is None else value for value in (trial.c, trial.c_i))
    d_i = update.sections[Section.PARAMETERS]
    close(moved(trial), -4 * LEARNING_RATE * (d_i.double() + c.double()))
    assert update.control is not None
    assert torch.equal(update.control, c_i + d_i)
    assert (update.metadata.steps, update.metadata.metrics) == (4, {"loss": 0.25})
    assert update.metadata.step_size_sum == pytest.approx(4 * LEARNING_RATE)
    assert trial.steps == [(4, done, STEPS) for done in range(1, 5)]


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_fedavg_and_fedprox_send_the_displacement(strategy: str) -> None:
    trial = Trial(strategy, control=False, own_control=False)
    update = trial.run()
    close(update.sections[Section.PARAMETERS], moved(trial))
    assert update.control is None


@pytest.mark.parametrize("strategy", ["scaffold", "fedavg", "fedprox"])
def test_buffers_go_up_as_they_are_and_frozen_layers_stay(strategy: str) -> None:
    trial = Trial(strategy, control=False, own_control=False)
    update = trial.run()
    assert update.sections[Section.INTEGER_BUFFERS].tolist() == [4]
    norm = trial.model.norm
    assert torch.equal(update.sections[Section.FLOAT_BUFFERS], torch.cat([norm.running_mean, norm.running_var]))  # type: ignore[list-item]
    assert Section.FROZEN not in update.sections


def test_adam_is_welcome_under_fedavg() -> None:
    trial = Trial("fedavg", control=False, own_control=False)
    trial.load()
    optimizer = trial.round.local_optimizer(torch.optim.Adam(trial.model.parameters(), lr=0.01))
    assert isinstance(optimizer, torch.optim.Adam)
    trial.train(optimizer)
    trial.round.submit(trial.model)
    close(trial.delivered[0].sections[Section.PARAMETERS], moved(trial))


class TestMatching:
    """An optimizer has tensors, the layout names: they meet by what the tensors hold."""

    def correction_lands(self, trial: Trial, optimizer: torch.optim.Optimizer) -> None:
        """One step without gradients moves every parameter by −η (c − c_i), if each got its own part of it."""
        trial.round.local_optimizer(optimizer)
        optimizer.step()
        assert trial.c is not None
        assert trial.c_i is not None
        close(moved(trial), -LEARNING_RATE * (trial.c - trial.c_i))

    @pytest.mark.parametrize(
        "parameters",
        [
            lambda model: list(model.parameters()),
            lambda model: list(model.named_parameters()),
            lambda model: list(model.parameters())[::-1],
            lambda model: [p for p in model.parameters() if p.requires_grad],
            lambda model: [
                {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.1},
                {"params": [p for p in model.parameters() if p.ndim != 2]},
            ],
            lambda model: [
                {"params": list(model.second.parameters())},
                {"params": list(model.norm.parameters())},
                {"params": list(model.first.parameters())},
            ],
        ],
        ids=["plain", "named", "reversed", "trainable", "by-decay", "by-layer"],
    )
    def test_in_any_order(self, parameters: Callable[[Net], Any]) -> None:
        trial = Trial()
        trial.load()
        self.correction_lands(trial, trial.optimizer(parameters(trial.model)))

    def test_names_tell_apart_what_looks_alike(self) -> None:
        trial = Trial()
        zeros = dict(trial.start)
        for name, view in parameter_views(trial.layout, zeros[Section.PARAMETERS]).items():
            if "bias" in name:
                view.zero_()
        trial.round._model = {section: values.clone() for section, values in zeros.items()}
        trial.load()
        self.correction_lands(trial, trial.optimizer(list(trial.model.named_parameters())[::-1]))

    def test_what_looks_alike_in_another_order_is_refused(self) -> None:
        trial = Trial()
        trial.round._model[Section.PARAMETERS].zero_()  # type: ignore[index]
        trial.load()
        backwards = list(trial.model.parameters())[::-1]
        with pytest.raises(TrainingError, match=r"expected to tell .* apart.*model\.named_parameters\(\)"):
            trial.round.local_optimizer(trial.optimizer(backwards))

    def test_a_model_that_was_not_loaded(self) -> None:
        trial = Trial()
        with pytest.raises(TrainingError, match=r"call model\.load_state_dict\(round\.state_dict\(\)\) before"):
            trial.round.local_optimizer(trial.optimizer())

    @pytest.mark.parametrize(
        "parameters",
        [
            lambda model: list(model.first.parameters()),
            lambda model: [*model.parameters(), nn.Parameter(torch.zeros(3))],
        ],
    )
    def test_too_few_or_too_many(self, parameters: Callable[[Net], Any]) -> None:
        trial = Trial()
        trial.load()
        with pytest.raises(TrainingError, match=r"every trainable parameter of the model, each once \(6\), found [27]"):
            trial.round.local_optimizer(trial.optimizer(parameters(trial.model)))

    def test_another_model_is_noticed_before_anything_is_sent(self) -> None:
        trial = Trial()
        trial.load()
        trial.train(trial.round.local_optimizer(trial.optimizer()))
        other = Net()
        other.load_state_dict(trial.model.state_dict())
        with pytest.raises(TrainingError, match=r"expected the model that round\.local_optimizer.*found another"):
            trial.round.submit(other)
        trial.round.submit(trial.model)
        assert len(trial.delivered) == 1


class TestMisuse:
    def test_submit_twice(self) -> None:
        trial = Trial()
        trial.run()
        with pytest.raises(TrainingError, match=r"round 4: expected one call of round\.submit.*found a second one"):
            trial.round.submit(trial.model)

    def test_submit_without_an_optimizer(self) -> None:
        trial = Trial()
        with pytest.raises(TrainingError, match=r"expected round\.local_optimizer\(optimizer\) before round\.submit"):
            trial.round.submit(trial.model)

    def test_submit_without_a_step(self) -> None:
        trial = Trial()
        trial.load()
        trial.round.local_optimizer(trial.optimizer())
        with pytest.raises(TrainingError, match="expected at least one step of the local optimizer"):
            trial.round.submit(trial.model)

    def test_submit_after_steps_of_another_optimizer(self) -> None:
        trial = Trial()
        trial.load()
        trial.round.local_optimizer(trial.optimizer())
        trial.train(trial.optimizer())
        with pytest.raises(TrainingError, match="expected at least one step of the local optimizer"):
            trial.round.submit(trial.model)

    def test_a_learning_rate_of_nothing(self) -> None:
        trial = Trial()
        trial.load()
        optimizer = trial.round.local_optimizer(trial.optimizer())
        optimizer.param_groups[0]["lr"] = 0.0
        trial.train(optimizer)
        with pytest.raises(TrainingError, match="expected steps with a learning rate above 0"):
            trial.round.submit(trial.model)

    def test_two_optimizers(self) -> None:
        trial = Trial()
        trial.load()
        trial.round.local_optimizer(trial.optimizer())
        with pytest.raises(TrainingError, match=r"expected one call of round\.local_optimizer"):
            trial.round.local_optimizer(trial.optimizer())

    def test_momentum_under_scaffold(self) -> None:
        trial = Trial()
        trial.load()
        with pytest.raises(TrainingError, match=r"found momentum = 0\.9; SCAFFOLD's correction is exact for plain SGD"):
            trial.round.local_optimizer(trial.optimizer(momentum=0.9))

    def test_the_state_dict_of_a_round_that_is_over(self) -> None:
        trial = Trial()
        trial.run()
        with pytest.raises(TrainingError, match="the round is over"):
            trial.round.state_dict()

    def test_another_architecture(self) -> None:
        trial = Trial("fedavg", control=False, own_control=False)
        trial.load()
        trial.train(trial.round.local_optimizer(trial.optimizer()))
        with pytest.raises(ModelError, match=r"model: expected parameter 'first\.weight'"):
            trial.round.submit(nn.Linear(2, 2))
        assert not trial.delivered

    @pytest.mark.parametrize("strategy", ["scaffold", "fedavg"])
    def test_a_training_that_diverged(self, strategy: str) -> None:
        trial = Trial(strategy, control=False, own_control=False)
        trial.load()
        optimizer = trial.round.local_optimizer(trial.optimizer())
        trial.train(optimizer, steps=1)
        optimizer.zero_grad()
        (trial.model(torch.randn(8, 3)).sum() * float("inf")).backward()
        optimizer.step()
        with pytest.raises(TrainingError, match="found NaN or infinity among the parameters; training diverged"):
            trial.round.submit(trial.model)
        assert not trial.delivered

    @pytest.mark.parametrize(
        "metrics",
        [{"loss": float("nan")}, {"Loss!": 1.0}, {"loss": torch.zeros(3)}, {f"m{i}": 0.0 for i in range(33)}],
    )
    def test_metrics_that_are_none(self, metrics: dict[str, Any]) -> None:
        trial = Trial()
        trial.load()
        trial.train(trial.round.local_optimizer(trial.optimizer()))
        with pytest.raises(TrainingError, match="round 4: metrics: "):
            trial.round.submit(trial.model, metrics)
        trial.round.submit(trial.model, {"loss": 1.0})
        assert len(trial.delivered) == 1


def test_one_optimizer_serves_many_rounds() -> None:
    """The hooks of a round come off with it: the second round counts its own steps only."""
    first, second = Trial(), Trial()
    second.model = first.model
    optimizer = first.optimizer()
    for trial in (first, second):
        trial.load()
        trial.train(trial.round.local_optimizer(optimizer))
        trial.round.submit(trial.model)
        assert trial.delivered[0].metadata.steps == 4


def test_a_round_that_is_skipped_sends_nothing_and_frees_the_optimizer() -> None:
    trial = Trial()
    trial.load()
    optimizer = trial.round.local_optimizer(trial.optimizer())
    trial.round.skip()
    trial.train(optimizer, steps=20)
    assert not trial.delivered
