"""What each kind of evidence must be able to do, so that everything above is written once.

One family a package: `snp` (real and simulated), `dcap` (TDX and SGX), `nitro`, `token`. Its three floors are parse,
authenticate, appraise; each takes the former one's type.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from attestation.claims import Claims
from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues
from attestation.verdict import Verdict


class Authentic(Protocol):
    """Evidence that its root of trust vouches for, at the time that `authenticate` was given."""

    def appraise(self, values: ReferenceValues, report_data: bytes | None) -> Verdict:
        """Compare it with one set of reference values of its own kind, and with what it must commit to.

        `report_data` None compares nothing with the commitment, and the verdict says so. Raises `EvidenceRefused`
        naming the first field that differs; `EvidenceUncheckable` if the values ask for something (a revocation list)
        that did not come along; `EvidenceNotAuthentic` if they pin another signer.
        """
        ...


class Family(Protocol):
    """One kind of evidence."""

    def recognises(self, data: bytes) -> bool:
        """Whether raw evidence (not our encoding) looks like this kind; never raises."""
        ...

    def describe(self, report: bytes) -> Claims:
        """What it says, unverified, field by field; raises `EvidenceMalformed`."""
        ...

    def authenticate(self, evidence: Evidence, now: datetime) -> Authentic:
        """Verify signatures, chains, collateral and dates at the aware time `now`.

        Raises `EvidenceMalformed`, `EvidenceNotAuthentic`, `EvidenceUncheckable` where an endorsement is missing, and
        `EvidenceRefused` for what no reference values can accept (debugging).
        """
        ...

    def renewed(self, evidence: Evidence, endorsements: Sequence[bytes], now: datetime) -> Evidence:
        """The same report with those of the endorsements that concern it, in place of the lists that it brought.

        Lists that are current at the aware time `now` go before others. Raises `EvidenceUncheckable` if there is none
        for it among them, `RevocationUnpublished` if there are none in the world, `EvidenceMalformed`.
        """
        ...

    def reference(self, evidence: Evidence) -> ReferenceValues:
        """Reference values that accept this evidence and nothing wider than need be, unverified.

        Raises `EvidenceMalformed`; `EvidenceRefused` where no reference values can accept it (debugging);
        `EvidenceUncheckable` where an endorsement is needed to know.
        """
        ...
