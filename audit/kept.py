"""What silos kept of a log, as an audit says it.

Frozen values, made by `audit.receipts`. Nothing here trusts or checks anything.
"""

from dataclasses import dataclass

from protocol.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """An update whose acceptance has a receipt, and that no published round used: the entry, and what became of it."""

    entry: int
    round: int
    attempt: int
    fate: str

    def __str__(self) -> str:
        return f"entry {self.entry}, round {self.round} attempt {self.attempt}: {self.fate}"

    def to_json(self) -> Json:
        return {"entry": self.entry, "round": self.round, "attempt": self.attempt, "fate": self.fate}


@dataclass(frozen=True, slots=True, kw_only=True)
class SiloKept:
    """The receipts of one silo's admissions and updates.

    `updates` of the `receipts` are of accepted updates, of which the log holds `accepted`. `unused` are the first ones
    that no round used, of `unused_count`.
    """

    silo: str
    receipts: int
    updates: int
    accepted: int
    unused_count: int
    unused: tuple[Unused, ...]

    def __str__(self) -> str:
        used = self.updates - self.unused_count
        return (
            f"{self.silo}: {self.receipts} receipts, of {self.updates} of its {self.accepted} accepted updates; "
            f"{used} used, {self.unused_count} not"
        )

    def to_json(self) -> Json:
        return {
            "silo": self.silo,
            "receipts": self.receipts,
            "updates": self.updates,
            "accepted": self.accepted,
            "unused_count": self.unused_count,
            "unused": [item.to_json() for item in self.unused],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """All receipts that were handed in: how many files there were, and how many receipts are of this history."""

    files: int
    held: int
    silos: tuple[SiloKept, ...]

    def to_json(self) -> dict[str, Json]:
        return {"files": self.files, "held": self.held, "silos": [silo.to_json() for silo in self.silos]}
