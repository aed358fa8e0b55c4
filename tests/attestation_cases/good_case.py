"""What a published vector is made of, and a case of good evidence."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues


@dataclass(frozen=True, kw_only=True)
class PublishedCase:
    """A public vector with its right verdict (`facts`, as `cases.json` has them)."""

    name: str
    endorsements: tuple[bytes, ...]
    facts: dict

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.facts["time"])

    @property
    def not_after(self) -> datetime:
        return datetime.fromisoformat(self.facts["not_after"])


class GoodCase(NamedTuple):
    """Evidence that `values` accept at `now`, committed to `report_data` (None: to nothing that we know of).

    `signed`: the places in the report where no bit can change unnoticed.
    """

    name: str
    evidence: Evidence
    values: ReferenceValues
    report_data: bytes | None
    now: datetime
    signed: tuple[range, ...]
