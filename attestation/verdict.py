"""The result of an appraisal: what was proved, and every check that was made on the way.

A verdict exists only if every check passed; there is no verdict that says no.
"""

from dataclasses import dataclass

from attestation.check import Check
from attestation.claims import Claims
from attestation.tee import Tee


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Evidence that was parsed, authenticated and appraised (an Attestation Result, RFC 9334).

    `product` is the line of hardware or the service, as its maker spells it; `measurement` what stands first for the
    code: launch measurement, MRTD, MRENCLAVE, PCR0 or image digest. `report_data` is what the evidence commits to, and
    None where the caller asked for no comparison. `warnings` are sentences about what was accepted although it is
    weak. `simulated` comes from the roots that vouched, never from what the evidence says of itself: if it is true,
    nothing is protected, and whatever is derived from this verdict has to say so.
    """

    tee: Tee
    product: str
    measurement: bytes
    report_data: bytes | None
    claims: Claims
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    simulated: bool
