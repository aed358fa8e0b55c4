"""Reference values for Microsoft Azure Attestation: what Azure's token must say to be accepted.

They come from the agreement and have no defaults. What no value can allow is refused always: debugging, migration, a VM
without isolation or without secure boot.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from attestation.errors import ReferenceValuesError
from attestation.tee import Tee
from attestation.terms import Covers, Revocation, require_filled, require_range, require_size, require_texts
from attestation.token.maa.hardware import SVNS
from attestation.token.maa.token import POLICY_HASH_BYTES, AttestationType

ANY: Final = "any"
NONE: Final = "none"
THUMBPRINT_BYTES: Final = 32
MAXIMUM_AGE_SECONDS: Final = 24 * 3600
PARAVISOR: Final = "azure-compliant-cvm"
"""The compliance status of a VM under Azure's own paravisor, which is all that its measurement covers."""
_TD_DEBUG_BITS = 0xFF


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpHardware:
    """An accepted SEV-SNP guest, in the report's terms.

    `measurements` have 48 bytes, `host_data` 32 (the digest of a container group's policy; zero where there is none),
    `id_key_digests` 48 or `ANY`, `author_key_digest` 48 (zero where there is none). The minima are security versions.
    """

    measurements: tuple[bytes, ...]
    host_data: tuple[bytes, ...]
    id_key_digests: tuple[bytes, ...] | Literal["any"]
    author_key_digest: bytes
    vmpl: int
    smt_allowed: bool
    minimum_guest_svn: int
    minimum_bootloader_svn: int
    minimum_tee_svn: int
    minimum_snpfw_svn: int
    minimum_microcode_svn: int

    def __post_init__(self) -> None:
        _require_list("measurements", self.measurements, 48)
        _require_list("host_data", self.host_data, 32)
        _require_list_or_any("id_key_digests", self.id_key_digests, 48)
        require_size("hardware.author_key_digest", self.author_key_digest, 48)
        require_range("hardware.vmpl", self.vmpl, 3)
        require_range("hardware.minimum_guest_svn", self.minimum_guest_svn, 2**32 - 1)
        for name in SVNS:
            require_range(f"hardware.minimum_{name}_svn", getattr(self, f"minimum_{name}_svn"), 255)

    @property
    def type(self) -> AttestationType:
        """As Azure names it."""
        return AttestationType.SEV_SNP_VM

    @property
    def reaches_code(self) -> bool:
        """Azure's guests have its firmware or its utility VM inside: ours is covered by the container policy only."""
        return all(any(data) for data in self.host_data)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxHardware:
    """An accepted TDX guest, in the quote's terms.

    Registers have 48 bytes, `td_attributes` and `xfam` 8 each, as they stand in the quote; `mrconfigid`, `mrowner` and
    `mrownerconfig` are exact, zero where they are not used.
    """

    mrtd: tuple[bytes, ...]
    rtmr0: tuple[bytes, ...] | Literal["any"]
    rtmr1: tuple[bytes, ...] | Literal["any"]
    rtmr2: tuple[bytes, ...] | Literal["any"]
    rtmr3: tuple[bytes, ...] | Literal["any"]
    mrseam: tuple[bytes, ...] | Literal["any"]
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    td_attributes: tuple[bytes, ...]
    xfam: tuple[bytes, ...]
    tcb_statuses: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_list("mrtd", self.mrtd, 48)
        for name in ("rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrseam"):
            _require_list_or_any(name, getattr(self, name), 48)
        for name in ("mrconfigid", "mrowner", "mrownerconfig"):
            require_size(f"hardware.{name}", getattr(self, name), 48)
        _require_list("td_attributes", self.td_attributes, 8)
        _require_list("xfam", self.xfam, 8)
        require_filled("hardware.tcb_statuses", self.tcb_statuses)
        require_texts("hardware.tcb_statuses", self.tcb_statuses)
        if any(attributes[0] & _TD_DEBUG_BITS for attributes in self.td_attributes):
            raise ReferenceValuesError("hardware.td_attributes", expected="no debugging", found="bits 7 to 0 set")

    @property
    def type(self) -> AttestationType:
        """As Azure names it."""
        return AttestationType.TDX_VM

    @property
    def reaches_code(self) -> bool:
        """MRTD is the firmware; what it loads is in the registers that it extends, if any."""
        return all(accepted != ANY and all(any(value) for value in accepted) for accepted in (self.rtmr1, self.rtmr2))


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxHardware:
    """An accepted SGX enclave: `mr_enclaves` and `mr_signers` (32 bytes) or `ANY`, not both; `config_id` 64 bytes."""

    mr_enclaves: tuple[bytes, ...] | Literal["any"]
    mr_signers: tuple[bytes, ...] | Literal["any"]
    product_ids: tuple[int, ...]
    minimum_svn: int
    config_id: bytes

    def __post_init__(self) -> None:
        _require_list_or_any("mr_enclaves", self.mr_enclaves, 32)
        _require_list_or_any("mr_signers", self.mr_signers, 32)
        if self.mr_enclaves == ANY and self.mr_signers == ANY:
            raise ReferenceValuesError("hardware.mr_enclaves", expected="enclaves or signers", found="any of both")
        require_filled("hardware.product_ids", self.product_ids)
        for product_id in self.product_ids:
            require_range("hardware.product_ids", product_id, 2**16 - 1)
        require_range("hardware.minimum_svn", self.minimum_svn, 2**16 - 1)
        require_size("hardware.config_id", self.config_id, 64)

    @property
    def type(self) -> AttestationType:
        """As Azure names it."""
        return AttestationType.SGX

    @property
    def reaches_code(self) -> bool:
        """A signer may sign any code."""
        return self.mr_enclaves != ANY


MaaHardware: TypeAlias = SnpHardware | TdxHardware | SgxHardware


@dataclass(frozen=True, slots=True, kw_only=True)
class MaaReferenceValues:
    """One accepted kind of machine or enclave. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `signing_keys`: thumbprints (RFC 7638, SHA-256, 32 bytes each) of the issuers' keys, whose set has to come along.
    - `issuers`: exact addresses. A region's instances share keys, so a key alone doesn't tell whose token it is.
    - `policy_hashes`: accepted attestation policies of those issuers (SHA-256, 32 bytes each): a policy may issue any
      claim.
    - `maximum_age_seconds`: how old a token may be at the time given; it must not have expired in any case.
    - `attestation_type`: `AZURE_VM` for a confidential VM under Azure's paravisor, else that of the hardware.
    - `compliance_statuses`: what Azure may say of it, or `NONE` for a token that says nothing.
    - `hardware`: what it runs on.
    - `vm_ids`: accepted VMs or `ANY` where the type is `AZURE_VM`; `NONE` for others.
    - `revocation`: `SHORT_LIVED`; tokens live eight hours.
    - `covers`: `CODE` is impossible for an Azure VM, whose measurement is the paravisor's, and wherever the hardware's
      values stop short of the code.
    """

    tee: Tee
    signing_keys: tuple[bytes, ...]
    issuers: tuple[str, ...]
    policy_hashes: tuple[bytes, ...]
    maximum_age_seconds: int
    attestation_type: AttestationType
    compliance_statuses: tuple[str, ...] | Literal["none"]
    hardware: MaaHardware
    vm_ids: tuple[str, ...] | Literal["any", "none"]
    revocation: Revocation
    covers: Covers

    def __post_init__(self) -> None:
        if self.tee is not Tee.AZURE_MAA:
            raise ReferenceValuesError("tee", expected="azure-maa", found=str(self.tee))
        for name, values, size in (
            ("signing_keys", self.signing_keys, THUMBPRINT_BYTES),
            ("policy_hashes", self.policy_hashes, POLICY_HASH_BYTES),
        ):
            require_filled(name, values)
            for value in values:
                require_size(name, value, size)
        require_filled("issuers", self.issuers)
        require_texts("issuers", self.issuers)
        if strange := [issuer for issuer in self.issuers if not issuer.startswith("https://")]:
            raise ReferenceValuesError("issuers", expected="addresses that start with https://", found=strange[0][:80])
        require_range("maximum_age_seconds", self.maximum_age_seconds, MAXIMUM_AGE_SECONDS)
        self._check_type()
        self._check_covers()
        if self.revocation is not Revocation.SHORT_LIVED:
            raise ReferenceValuesError(
                "revocation", expected=f'"{Revocation.SHORT_LIVED}": tokens live eight hours', found=self.revocation
            )

    def _check_type(self) -> None:
        is_vm = self.attestation_type is AttestationType.AZURE_VM
        if is_vm and self.hardware.type is AttestationType.SGX:
            raise ReferenceValuesError("hardware.type", expected="sevsnpvm or tdxvm for an Azure VM", found="sgx")
        if not is_vm and self.attestation_type is not self.hardware.type:
            raise ReferenceValuesError("attestation_type", expected=self.hardware.type, found=self.attestation_type)
        if (self.vm_ids == NONE) is is_vm:
            raise ReferenceValuesError(
                "vm_ids", expected='"any" or some for azurevm, "none" for others', found=str(self.vm_ids)[:80]
            )
        if self.vm_ids not in (ANY, NONE):
            require_filled("vm_ids", self.vm_ids)
            require_texts("vm_ids", self.vm_ids)
        if self.compliance_statuses != NONE:
            require_filled("compliance_statuses", self.compliance_statuses)
            require_texts("compliance_statuses", self.compliance_statuses)
        elif is_vm:
            raise ReferenceValuesError("compliance_statuses", expected=f'some, as "{PARAVISOR}"', found=NONE)

    def _check_covers(self) -> None:
        is_paravisor = self.attestation_type is AttestationType.AZURE_VM or PARAVISOR in self.compliance_statuses
        if self.covers is Covers.CODE and (is_paravisor or not self.hardware.reaches_code):
            reason = "only Azure's paravisor is measured" if is_paravisor else "these measurements don't reach the code"
            raise ReferenceValuesError("covers", expected=f'"{Covers.FIRMWARE_ONLY}": {reason}', found=self.covers)


def _require_list(name: str, values: tuple[bytes, ...], size: int) -> None:
    require_filled(f"hardware.{name}", values)
    for value in values:
        require_size(f"hardware.{name}", value, size)


def _require_list_or_any(name: str, values: tuple[bytes, ...] | Literal["any"], size: int) -> None:
    if values != ANY:
        _require_list(name, values, size)
