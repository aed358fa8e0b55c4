"""The changes of its key that a log claims, found before anything vouches for them.

Which key signed a checkpoint is known only from the entries under it, and whether those are the log's only from the
checkpoint. So whoever opens a log looks through the entries first (here, quickly: an entry is parsed only if it says
that it is of such a kind), reads everything under the keys that they claim, and believes a claim only once the entry
has been found again under a signed root, has passed the transition table, and shows what it must.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from audit.entries import KeyRotated, LogRecovered, UnknownEntryError, parse_entry
from audit.log_keys import KeyInForce, LogKeys
from audit.note import VerifierKey
from protocol.errors import MalformedError
from protocol.keys import VerifyingKey

# A string's own quotes are escaped in JSON: these bytes stand where a kind stands, and nowhere else.
_MARKS = (b'"kind":"key.rotated"', b'"kind":"log.recovered"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the first `size` entries claim. `unreadable`: the next one is a change that this reader does not know."""

    changes: tuple[tuple[int, KeyRotated | LogRecovered], ...]
    size: int
    unreadable: bool = False

    def keys(self, origin: str, first: VerifyingKey) -> LogKeys:
        """The log's keys if all of this is true, which is not judged here: a key may come back, say."""
        named = ((index, entry.keys.log_key, isinstance(entry, KeyRotated)) for index, entry in self.changes)
        return LogKeys(
            in_force=tuple(
                KeyInForce(key=VerifierKey.of_log(origin, key), since=index, handed_over=rotated)
                for index, key, rotated in ((0, first, False), *named)
            )
        )


def claims_in(entries: Iterable[bytes]) -> Claims:
    """Look through a log's entries, from the first on. What is malformed claims nothing."""
    changes: list[tuple[int, KeyRotated | LogRecovered]] = []
    size = 0
    for index, data in enumerate(entries):
        size = index + 1
        if not any(mark in data for mark in _MARKS):
            continue
        try:
            entry = parse_entry(data)
        except UnknownEntryError:
            return Claims(changes=tuple(changes), size=index, unreadable=True)
        except MalformedError:
            continue
        if isinstance(entry, KeyRotated | LogRecovered):
            changes.append((index, entry))
    return Claims(changes=tuple(changes), size=size)
