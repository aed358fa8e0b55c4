"""What the enclave is given from outside. The composition root makes real ones; simulations and tests, others."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The enclave's only ways out.

    `clock`: unix seconds, untrusted; `random`: so many secret bytes; `send` (silo, message) and `ask` (further witness,
    message) must not block; `wake` asks for a `tick` soon; `event` takes a line of codes for the operator, never data.
    """

    clock: Callable[[], int]
    random: Callable[[int], bytes]
    send: Callable[[str, bytes], None]
    ask: Callable[[str, bytes], None]
    wake: Callable[[], None]
    event: Callable[[str], None]
