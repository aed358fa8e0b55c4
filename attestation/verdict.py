"""The result of an appraisal: what was proved, and every check that was made on the way.

A verdict exists only if every check passed; there is no verdict that says no.
"""

from dataclasses import dataclass

from attestation.snp.product import Product
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One passed line of a checklist: its number in the verifier's source, what was asked for, what was there."""

    number: int
    name: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Evidence that was parsed, authenticated and appraised.

    `measurement` is 48 bytes, `report_data` 64, `tcb` the version that the signing key proves (REPORTED_TCB).
    `simulated` comes from the roots that vouched, never from what the evidence says of itself: if it is true, nothing
    is protected, and whatever is derived from this verdict has to say so.
    """

    tee: Tee
    product: Product
    measurement: bytes
    tcb: TcbVersion
    report_data: bytes
    checks: tuple[Check, ...]
    simulated: bool
