"""The quoting enclave's identity: what Intel says its quoting enclaves look like, version 2.

Trusts nothing: what parses is still to be verified (`authenticate`). Source: Intel SGX and TDX provisioning
certification service, API version 4, "Get Quoting Enclave identity".
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from attestation.dcap.intel_json import JsonFields
from attestation.dcap.strict_json import members
from attestation.dcap.tcb_info import ComponentLevel, component_levels
from attestation.errors import EvidenceMalformed


class EnclaveId(StrEnum):
    """Whose identity it is: the quoting enclave's of SGX, that of TDX, or a verifying enclave's."""

    QE = "QE"
    TD_QE = "TD_QE"
    QVE = "QVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class QeIdentity:
    """An enclave identity, not yet verified. `levels` are newest first."""

    id: EnclaveId
    issue_date: datetime
    next_update: datetime
    tcb_evaluation_data_number: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[ComponentLevel, ...]

    @classmethod
    def parse(cls, data: bytes) -> "QeIdentity":
        """Read the inner object's bytes; raises `EvidenceMalformed` naming the field."""
        name = "enclaveIdentity"
        fields = JsonFields({key: member.value for key, member in members(data, name).items()}, name)
        version = fields.integer("version", 2**32 - 1)
        if version != 2:
            raise EvidenceMalformed(f"{name}.version", expected="2", found=str(version))
        return cls(
            id=EnclaveId(fields.text("id", tuple(EnclaveId))),
            issue_date=fields.date("issueDate"),
            next_update=fields.date("nextUpdate"),
            tcb_evaluation_data_number=fields.integer("tcbEvaluationDataNumber", 2**32 - 1),
            misc_select=fields.hexadecimal("miscselect", 4),
            misc_select_mask=fields.hexadecimal("miscselectMask", 4),
            attributes=fields.hexadecimal("attributes", 16),
            attributes_mask=fields.hexadecimal("attributesMask", 16),
            mr_signer=fields.hexadecimal("mrsigner", 32),
            isv_prod_id=fields.integer("isvprodid", 2**16 - 1),
            levels=component_levels(fields),
        )


def masked(value: bytes, mask: bytes) -> bytes:
    """The bits of `value` that `mask` has."""
    return bytes(a & b for a, b in zip(value, mask, strict=True))
