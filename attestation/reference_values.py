"""What evidence is compared with. The agreement makes these, `attestation.appraise` takes them."""

from typing import TypeAlias

from attestation.nitro.reference_values import NitroReferenceValues
from attestation.snp.reference_values import ANY_CHIP, IdBlock, SnpReferenceValues
from attestation.terms import Covers, Revocation

ReferenceValues: TypeAlias = SnpReferenceValues | NitroReferenceValues

__all__ = [
    "ANY_CHIP",
    "Covers",
    "IdBlock",
    "NitroReferenceValues",
    "ReferenceValues",
    "Revocation",
    "SnpReferenceValues",
]
