"""SEV-SNP as a family of evidence: the vendor's, and the simulated twin, which differs in its roots only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from attestation.claims import Claims
from attestation.errors import ReferenceValuesError
from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues
from attestation.snp.appraise import appraise
from attestation.snp.authenticate import AuthenticReport, authenticate
from attestation.snp.claims import report_claims
from attestation.snp.endorsements import Endorsements
from attestation.snp.product import product_of_cpuid
from attestation.snp.reference import reference_values
from attestation.snp.reference_values import SnpReferenceValues
from attestation.snp.renewal import renewed
from attestation.snp.report import REPORT_BYTES, SignedReport
from attestation.snp.roots import RootSet
from attestation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticSnp:
    """A report that a pinned root vouches for."""

    report: AuthenticReport

    def appraise(self, values: ReferenceValues, report_data: bytes | None) -> Verdict:
        """As `attestation.family.Authentic` says."""
        if not isinstance(values, SnpReferenceValues):
            raise ReferenceValuesError("tee", expected="reference values for SEV-SNP", found=str(values.tee))
        return appraise(self.report, values, report_data)


@dataclass(frozen=True, slots=True)
class SnpFamily:
    """As `attestation.family.Family` says; `roots` are the vendor's or the simulated ones."""

    roots: Callable[[], RootSet]

    def recognises(self, data: bytes) -> bool:
        return len(data) == REPORT_BYTES and data[:4] in (b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0", b"\5\0\0\0")

    def describe(self, report: bytes) -> Claims:
        parsed = SignedReport.parse(report).report
        product = None if parsed.cpuid is None else product_of_cpuid(parsed.cpuid.family, parsed.cpuid.model)
        return report_claims(parsed, product, None)

    def authenticate(self, evidence: Evidence, now: datetime) -> AuthenticSnp:
        signed = SignedReport.parse(evidence.report)
        return AuthenticSnp(report=authenticate(signed, evidence.endorsements, self.roots(), now))

    def renewed(self, evidence: Evidence, endorsements: Sequence[bytes], now: datetime) -> Evidence:
        return renewed(evidence, endorsements, self.roots(), now)

    def reference(self, evidence: Evidence) -> ReferenceValues:
        parsed = SignedReport.parse(evidence.report).report
        return reference_values(parsed, Endorsements.parse(evidence.endorsements), evidence.tee)
