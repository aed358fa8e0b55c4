"""What evidence is compared with. The agreement makes these, `attestation.appraise` takes them."""

from typing import TypeAlias

from attestation.snp.reference_values import ANY_CHIP, IdBlock, SnpReferenceValues
from attestation.terms import Covers, Revocation

ReferenceValues: TypeAlias = SnpReferenceValues

__all__ = ["ANY_CHIP", "Covers", "IdBlock", "ReferenceValues", "Revocation", "SnpReferenceValues"]
