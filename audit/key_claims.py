"""The changes of its key that a log claims, found before anything vouches for them.

Which key signed a checkpoint is known only from the entries under it, and whether those are the log's only from the
checkpoint. So whoever opens a log looks through the entries first (here, quickly: an entry is parsed only if it says
that it is of such a kind), reads everything under the keys that they claim, and believes a claim only once the entry
has been found again under a signed root, has passed the transition table, and shows what it must.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from audit.entries import KeyRotated, LogRecovered, UnknownEntryError, parse_entry
from audit.log_keys import LogKeys
from protocol.errors import MalformedError
from protocol.keys import VerifyingKey

# A string's own quotes are escaped in JSON: these bytes stand where a kind stands, and nowhere else.
_MARKS = (b'"kind":"key.rotated"', b'"kind":"log.recovered"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the entries claim. `unreadable_from`: the first change that this reader can't read, which ends the list."""

    changes: tuple[tuple[int, KeyRotated | LogRecovered], ...]
    unreadable_from: int | None = None

    def keys(self, origin: str, first: VerifyingKey) -> LogKeys:
        """The log's keys if all of this is true; raises `MalformedError` if it can't be."""
        keys = LogKeys.first(origin, first)
        for index, entry in self.changes:
            keys = keys.after(index, entry)
        return keys


def claims_in(entries: Iterable[bytes]) -> Claims:
    """Look through a log's entries, all of them and in order. What is malformed claims nothing."""
    changes: list[tuple[int, KeyRotated | LogRecovered]] = []
    for index, data in enumerate(entries):
        if not any(mark in data for mark in _MARKS):
            continue
        try:
            entry = parse_entry(data)
        except UnknownEntryError:
            return Claims(changes=tuple(changes), unreadable_from=index)
        except MalformedError:
            continue
        if isinstance(entry, KeyRotated | LogRecovered):
            changes.append((index, entry))
    return Claims(changes=tuple(changes))
