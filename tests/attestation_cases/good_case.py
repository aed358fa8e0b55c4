"""What a case of good evidence is made of."""

from datetime import datetime
from typing import NamedTuple

from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues


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
