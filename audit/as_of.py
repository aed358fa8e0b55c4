"""How the evidence in a log stands as of a later day: what an audit says of it, beside its verdict on the history.

Frozen values, made by `audit.doubts`. Nothing here trusts or checks anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.canonical import Json

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One party's evidence that does not hold as of that day, or could not be checked, for one reason.

    `entries`: the indices of the first entries that rest on it, of `count` in all. `rounds`: the published rounds that
    rest on it, as spans with both ends.
    """

    party: str
    reason: str
    entries: tuple[int, ...]
    count: int
    rounds: tuple[Span, ...]

    def __str__(self) -> str:
        indices = ", ".join(str(index) for index in self.entries)
        more = f" and {self.count - len(self.entries)} more" if self.count > len(self.entries) else ""
        entries = f"entr{'y' if self.count == 1 else 'ies'} {indices}{more}"
        rests = f"; {in_words(self.rounds)} rest on it" if self.rounds else ""
        return f"{self.party} ({entries}): {self.reason}{rests}"

    def to_json(self) -> Json:
        return {
            "party": self.party,
            "reason": self.reason,
            "entries": list(self.entries),
            "count": self.count,
            "rounds": [list(span) for span in self.rounds],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """All evidence of a log, appraised once more by the lists of another day.

    `time`: unix seconds. `held`: pieces that would be accepted still. `doubts`: evidence that would not. `unchecked`:
    evidence for which lists exist, and none that could be used were given. `unpublished`: evidence for which nobody
    publishes any. `rounds`: the published rounds in doubt, as spans.
    """

    time: int
    held: int
    doubts: tuple[Standing, ...]
    unchecked: tuple[Standing, ...]
    unpublished: tuple[Standing, ...]
    rounds: tuple[Span, ...]

    @property
    def rounds_in_doubt(self) -> int:
        return sum(last - first + 1 for first, last in self.rounds)

    @property
    def words(self) -> str:
        """What stands behind the verdict; empty if nothing is in doubt."""
        if self.rounds:
            number = self.rounds_in_doubt
            return f"with {number} round{'s' * (number > 1)} in doubt"
        return "with evidence in doubt that no round rests on" if self.doubts else ""

    def to_json(self) -> dict[str, Json]:
        return {
            "time": self.time,
            "held": self.held,
            "rounds_in_doubt": [list(span) for span in self.rounds],
            "doubts": [item.to_json() for item in self.doubts],
            "unchecked": [item.to_json() for item in self.unchecked],
            "unpublished": [item.to_json() for item in self.unpublished],
        }


def in_words(spans: Iterable[Span]) -> str:
    """`round 3`, or `rounds 1 to 4, 7`."""
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in spans]
    several = len(parts) > 1 or " " in "".join(parts)
    return f"round{'s' * several} {', '.join(parts)}"
