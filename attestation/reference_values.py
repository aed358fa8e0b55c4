"""What evidence is compared with. The agreement makes these, `attestation.appraise` takes them."""

from typing import TypeAlias

from attestation.dcap.reference_values import (
    ANY,
    KssReferenceValues,
    PlatformReferenceValues,
    SgxReferenceValues,
    TdxReferenceValues,
)
from attestation.nitro.reference_values import NitroReferenceValues
from attestation.snp.reference_values import ANY_CHIP, IdBlock, SnpReferenceValues
from attestation.terms import Covers, Revocation
from attestation.token.confidential_space.reference_values import ConfidentialSpaceReferenceValues
from attestation.token.maa.reference_values import MaaReferenceValues

ReferenceValues: TypeAlias = (
    SnpReferenceValues
    | TdxReferenceValues
    | SgxReferenceValues
    | NitroReferenceValues
    | ConfidentialSpaceReferenceValues
    | MaaReferenceValues
)

__all__ = [
    "ANY",
    "ANY_CHIP",
    "ConfidentialSpaceReferenceValues",
    "Covers",
    "IdBlock",
    "KssReferenceValues",
    "MaaReferenceValues",
    "NitroReferenceValues",
    "PlatformReferenceValues",
    "ReferenceValues",
    "Revocation",
    "SgxReferenceValues",
    "SnpReferenceValues",
    "TdxReferenceValues",
]
