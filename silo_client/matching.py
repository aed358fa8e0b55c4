"""Which of an optimizer's parameters is which of the layout's: names, where `torch.optim` has only tensors.

`round.local_optimizer` comes before `round.submit` shows the model, so names are found by what the parameters hold: the
round's model, which was just loaded. `require_same` then holds the result against the model itself, before anything of
the round is sent.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from silo_client.optimizer import RoundTerms

_LOAD_FIRST = "call model.load_state_dict(round.state_dict()) before round.local_optimizer(…)"
_NAME_THEM = "build the optimizer from model.named_parameters(), so that it knows their names"


def match_parameters(optimizer: Optimizer, start: Mapping[str, Tensor], terms: RoundTerms) -> dict[str, nn.Parameter]:
    """The optimizer's trainable parameters by layout name; `start` holds the round's values, in the layout's order.

    Raises `TrainingError` unless each of the layout's is there exactly once and holds the round's value.
    """
    named = [pair for group in optimizer.param_groups for pair in _named(group) if pair[1].requires_grad]
    parameters = [parameter for _, parameter in named]
    if len(parameters) != len(start) or len({id(parameter) for parameter in parameters}) != len(start):
        raise terms.error(
            f"expected an optimizer over every trainable parameter of the model, each once ({len(start)}), "
            f"found {len(parameters)}; use model.parameters()"
        )
    names = [name for name, _ in named if name is not None]
    if set(names) == set(start):
        found = dict(zip(names, parameters, strict=True))
    else:
        found = dict(zip(start, parameters, strict=True))
    if all(_holds(found[name], value) for name, value in start.items()):
        return {name: found[name] for name in start}
    return _match_by_value(parameters, start, terms)


def require_same(parameters: Mapping[str, nn.Parameter], model: nn.Module, terms: RoundTerms) -> None:
    """Raise `TrainingError` unless the model's parameters are the very ones that the optimizer trained."""
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        if own.get(name) is not parameter:
            raise terms.error(
                f"expected the model that round.local_optimizer(…) got the parameters of, found another at {name!r}; "
                f"submit the model that was trained. If it is: {_NAME_THEM}"
            )


def _named(group: Mapping[str, Sequence[object]]) -> list[tuple[str | None, nn.Parameter]]:
    parameters: Sequence[nn.Parameter] = group["params"]  # type: ignore[assignment]
    names: Sequence[str | None] = group.get("param_names") or [None] * len(parameters)  # type: ignore[assignment]
    return list(zip(names, parameters, strict=True))


def _match_by_value(
    parameters: Sequence[nn.Parameter], start: Mapping[str, Tensor], terms: RoundTerms
) -> dict[str, nn.Parameter]:
    found: dict[str, nn.Parameter] = {}
    for number, parameter in enumerate(parameters, start=1):
        names = [name for name, value in start.items() if _holds(parameter, value)]
        if not names:
            raise terms.error(
                f"expected parameters that hold the round's model, found other values in number {number} of the "
                f"optimizer (shape {list(parameter.shape)}); {_LOAD_FIRST}"
            )
        if len(names) > 1 or names[0] in found:
            raise terms.error(
                f"expected to tell the optimizer's parameters apart, found {' and '.join((*names, *found))[:120]} "
                f"alike and in another order than the model's; {_NAME_THEM}"
            )
        found[names[0]] = parameter
    return {name: found[name] for name in start}


def _holds(parameter: nn.Parameter, value: Tensor) -> bool:
    if parameter.shape != value.shape:
        return False
    return torch.equal(parameter.detach().to("cpu"), value.to(parameter.dtype))
