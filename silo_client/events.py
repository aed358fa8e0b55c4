"""What a silo's client tells whoever watches: one event a thing that happened, for people and for scripts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

Fact: TypeAlias = str | int | float | bool | None


class EventKind(StrEnum):
    """The events, by the names that `--json` prints."""

    ENROLLED = "enrolled"
    WAITING = "waiting"
    INITIAL_MODEL = "initial-model"
    ROUND = "round"
    SUBMITTED = "submitted"
    LATE = "late"
    OUTCOME = "outcome"
    CONTROL_RESET = "control-reset"
    FINISHED = "finished"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened: a line for people, and the facts for scripts."""

    kind: EventKind
    text: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


class Observer(Protocol):
    """Called from the training thread and from the session's; must not block."""

    def event(self, event: Event) -> None:
        """Something happened."""
        ...

    def step(self, *, round_number: int, done: int, total: int) -> None:
        """A local step of a round was made."""
        ...


class Silent:
    """An observer that shows nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def step(self, *, round_number: int, done: int, total: int) -> None:
        """Nothing."""
