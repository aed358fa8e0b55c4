"""Intel TDX and SGX as families of evidence: one way of authenticating, two of appraising."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from attestation.claims import Claims
from attestation.dcap.appraise_sgx import appraise_sgx
from attestation.dcap.appraise_tdx import appraise_tdx
from attestation.dcap.authenticate import AuthenticQuote, authenticate
from attestation.dcap.carriers import is_quote
from attestation.dcap.claims import unverified_claims
from attestation.dcap.quote import Quote
from attestation.dcap.reference import reference_values_of
from attestation.dcap.reference_values import SgxReferenceValues, TdxReferenceValues
from attestation.dcap.renewal import renewed
from attestation.dcap.roots import Root
from attestation.errors import EvidenceMalformed, ReferenceValuesError
from attestation.evidence import Evidence
from attestation.reference_values import ReferenceValues
from attestation.tee import Tee
from attestation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticDcap:
    """A quote that the pinned root vouches for."""

    quote: AuthenticQuote

    def appraise(self, values: ReferenceValues, report_data: bytes | None) -> Verdict:
        """As `attestation.family.Authentic` says."""
        if isinstance(values, TdxReferenceValues):
            return appraise_tdx(self.quote, values, report_data)
        if isinstance(values, SgxReferenceValues):
            return appraise_sgx(self.quote, values, report_data)
        raise ReferenceValuesError("tee", expected="reference values for TDX or SGX", found=str(values.tee))


@dataclass(frozen=True, slots=True)
class DcapFamily:
    """As `attestation.family.Family` says; `tee` is TDX or SGX, `root` loads the pinned root."""

    tee: Tee
    root: Callable[[], Root]

    def recognises(self, data: bytes) -> bool:
        return is_quote(data, self.tee)

    def describe(self, report: bytes) -> Claims:
        return unverified_claims(self._parse(report))

    def authenticate(self, evidence: Evidence, now: datetime) -> AuthenticDcap:
        quote = self._parse(evidence.report)
        return AuthenticDcap(quote=authenticate(quote, evidence.endorsements, self.root(), now))

    def renewed(self, evidence: Evidence, endorsements: Sequence[bytes], now: datetime) -> Evidence:
        return renewed(evidence, self._parse(evidence.report), endorsements, self.root(), now)

    def reference(self, evidence: Evidence) -> ReferenceValues:
        return reference_values_of(self._parse(evidence.report), evidence.endorsements, self.root())

    def _parse(self, report: bytes) -> Quote:
        quote = Quote.parse(report)
        if quote.header.tee is not self.tee:
            raise EvidenceMalformed("tee_type", expected=self.tee.upper(), found=quote.header.tee.upper())
        return quote
