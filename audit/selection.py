"""Which of a log's entries somebody wants to see: by number, kind, silo, round and time.

Pure. Nothing is verified, and what does not parse is not selected by anything but its number. Most entries are passed
over by a look at their bytes: in canonical JSON a value that is there has one spelling. Called by `audit show`.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from protocol.errors import MalformedError

_RANGE = re.compile(r"(0|[1-9][0-9]{0,18})?\.\.(0|[1-9][0-9]{0,18})?", re.ASCII)
_UNIX = re.compile(r"[0-9]{1,15}", re.ASCII)
_TIME = re.compile(rb'"time":([0-9]{1,15})[,}]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Everything that is asked for must hold. `kinds` empty and None stand for "any".

    `first` ≤ index ≤ `last`; `since` ≤ time < `until` (unix seconds). `silo` is the entry's own, or one of its cohort.
    """

    first: int = 0
    last: int | None = None
    kinds: frozenset[str] = frozenset()
    silo: str | None = None
    round: int | None = None
    since: int | None = None
    until: int | None = None

    @property
    def by_content(self) -> bool:
        """Whether anything but the number is asked for."""
        return bool(self.kinds) or any(item is not None for item in (self.silo, self.round, self.since, self.until))

    def __contains__(self, data: bytes) -> bool:
        """Whether an entry's bytes have what is asked for; its number is the caller's to hold against the range."""
        if not self.by_content:
            return True
        if not self._may_hold(data):
            return False
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):
            return False
        return isinstance(entry, dict) and self._holds(entry)

    def _may_hold(self, data: bytes) -> bool:
        if self.kinds and not any(b'"kind":"%s"' % kind.encode() in data for kind in self.kinds):
            return False
        if self.silo is not None and b'"silo":"%s"' % self.silo.encode() not in data:
            return False
        if self.round is not None and b'"round":%d' % self.round not in data:
            return False
        return (self.since is None and self.until is None) or any(
            self._in_time(int(match[1])) for match in _TIME.finditer(data)
        )

    def _holds(self, entry: dict[str, object]) -> bool:
        if self.kinds and entry.get("kind") not in self.kinds:
            return False
        if self.silo is not None and self.silo not in _silos(entry):
            return False
        if self.round is not None and entry.get("round") != self.round:
            return False
        time = entry.get("time")
        return (self.since is None and self.until is None) or (type(time) is int and self._in_time(time))

    def _in_time(self, time: int) -> bool:
        return (self.since is None or self.since <= time) and (self.until is None or time < self.until)


def parse_range(text: str) -> tuple[int, int | None]:
    """`A..B`, both included, either of which may be left out; raises `MalformedError`."""
    match = _RANGE.fullmatch(text)
    if match is None or (match[1] and match[2] and int(match[2]) < int(match[1])):
        raise MalformedError(f"expected A..B (both included), A.. or ..B, found {text[:80]!r}")
    return int(match[1] or 0), int(match[2]) if match[2] else None


def parse_moment(text: str) -> int:
    """Unix seconds, or a date or time of ISO 8601 (UTC, unless it says otherwise); raises `MalformedError`."""
    if _UNIX.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedError(f"expected unix seconds or a time like 2026-01-31T12:00, found {text[:80]!r}") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _silos(entry: dict[str, object]) -> set[object]:
    cohort = entry.get("cohort")
    members = cohort if isinstance(cohort, list) else []
    named = [entry, *(member for member in members if isinstance(member, dict))]
    return {silo for table in named if isinstance(silo := table.get("silo"), str)}
