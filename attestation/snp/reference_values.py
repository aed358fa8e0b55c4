"""Reference values for SEV-SNP evidence, real and simulated: what a report must say to be accepted.

They come from the agreement. There are no defaults: every field that bears on security is given by name, an empty
allow-list is an error, and what an allow-list cannot say is refused always (debugging, migration).
"""

from dataclasses import dataclass
from typing import Final, Literal

from attestation.errors import ReferenceValuesError
from attestation.snp.flags import PlatformFlag, PolicyFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from attestation.terms import Covers, Revocation, require_filled, require_range, require_size

MEASUREMENT_BYTES = 48
CHIP_ID_BYTES = 64
ANY_CHIP: Final = "any"
REVOCATIONS: Final = (Revocation.CRL, Revocation.MINIMUM_TCB)
"""How a key's withdrawal can be noticed; nothing of AMD's is short-lived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdBlock:
    """The ID block that a guest was launched with, as its owner's keys signed it.

    `id_key_digest` and `author_key_digest` are SHA-384 digests (48 bytes; the latter all zero where no author key is
    used), `family_id` and `image_id` 16 bytes each. `minimum_guest_svn` means something only beside a pinned ID key.
    """

    id_key_digest: bytes
    author_key_digest: bytes
    family_id: bytes
    image_id: bytes
    minimum_guest_svn: int

    def __post_init__(self) -> None:
        require_size("id_block.id_key_digest", self.id_key_digest, 48)
        require_size("id_block.author_key_digest", self.author_key_digest, 48)
        require_size("id_block.family_id", self.family_id, 16)
        require_size("id_block.image_id", self.image_id, 16)
        require_range("id_block.minimum_guest_svn", self.minimum_guest_svn, 2**32 - 1)
        if not any(self.id_key_digest):
            raise ReferenceValuesError("id_block.id_key_digest", expected="a key's digest", found="zero bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReferenceValues:
    """One accepted kind of SEV-SNP guest. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `tee`: `SEV_SNP` or `SIMULATED`; it alone chooses the roots of trust.
    - `products`: accepted product lines, each with exactly one entry in `minimum_tcb`. `MILAN` is accepted with a
      warning.
    - `measurements`: accepted launch measurements, 48 bytes each.
    - `covers`: how far they reach, which no report tells: to the code, if kernel, initrd and command line are measured
      at launch, or all of it is one image. `FIRMWARE_ONLY` is accepted with a warning.
    - `revocation`: `CRL` asks for a revocation list of the product's root beside the report, which can withdraw ASK
      and ASVK only; `MINIMUM_TCB` asks for none. Chips' and providers' keys are withdrawn by `minimum_tcb` either way.
    - `minimum_tcb`: reached component by component by the reported, current, committed and launch TCB alike.
    - `provisional_firmware`: whether firmware that the host can still roll back (CURRENT ≠ COMMITTED) is accepted.
    - `policies`: accepted guest policies, compared as a whole; DEBUG and MIGRATE_MA are never among them.
    - `platform_required`: bits of PLATFORM_INFO that must be set (`ALIAS_CHECK_COMPLETE` answers BadRAM, AMD-SB-3015).
    - `mitigations_required`: bits that both mitigation vectors of a version-5 report must have; 0 asks for none.
    - `vmpl`: the privilege level that the report must have been requested from.
    - `signing_keys`: accepted kinds of signing key. `VLEK` means trusting that cloud provider with the choice of chip.
    - `csp_ids`: accepted CSP_IDs of VLEK certificates; given if and only if VLEK is accepted.
    - `chip_ids`: accepted CHIP_IDs, 64 bytes each, or `ANY_CHIP`.
    - `host_data`: 32 bytes that the host committed to at launch; zero bytes where it did not.
    - `id_block`: the ID block at launch, or None for a guest without one (all its fields must then be zero).
    """

    tee: Tee
    products: tuple[Product, ...]
    measurements: tuple[bytes, ...]
    covers: Covers
    revocation: Revocation
    minimum_tcb: tuple[TcbVersion, ...]
    provisional_firmware: bool
    policies: tuple[int, ...]
    platform_required: tuple[PlatformFlag, ...]
    mitigations_required: int
    vmpl: int
    signing_keys: tuple[SigningKey, ...]
    csp_ids: tuple[str, ...]
    chip_ids: tuple[bytes, ...] | Literal["any"]
    host_data: bytes
    id_block: IdBlock | None

    def __post_init__(self) -> None:
        if self.tee not in (Tee.SEV_SNP, Tee.SIMULATED):
            raise ReferenceValuesError("tee", expected="sev-snp or simulated", found=str(self.tee))
        require_filled("products", self.products)
        require_filled("measurements", self.measurements)
        require_filled("policies", self.policies)
        require_filled("signing_keys", self.signing_keys)
        if self.revocation not in REVOCATIONS:
            raise ReferenceValuesError(
                "revocation",
                expected=f"{' or '.join(REVOCATIONS)}, as the certificates live for years",
                found=self.revocation,
            )
        for measurement in self.measurements:
            require_size("measurements", measurement, MEASUREMENT_BYTES)
        if sorted(tcb.product for tcb in self.minimum_tcb) != sorted(self.products):
            raise ReferenceValuesError(
                "minimum_tcb",
                expected=f"one for each of {', '.join(sorted(self.products))}",
                found=", ".join(sorted(tcb.product for tcb in self.minimum_tcb)) or "none",
            )
        for policy in self.policies:
            _check_policy(policy)
        if (SigningKey.VLEK in self.signing_keys) is not bool(self.csp_ids):
            raise ReferenceValuesError(
                "csp_ids", expected="some if and only if VLEK is accepted", found=", ".join(self.csp_ids) or "none"
            )
        if self.chip_ids != ANY_CHIP:
            require_filled("chip_ids", self.chip_ids)
            for chip_id in self.chip_ids:
                require_size("chip_ids", chip_id, CHIP_ID_BYTES)
        require_size("host_data", self.host_data, 32)
        require_range("vmpl", self.vmpl, 3)
        require_range("mitigations_required", self.mitigations_required, 2**64 - 1)

    def minimum_tcb_of(self, product: Product) -> TcbVersion:
        """The minimum for one accepted product line."""
        return next(tcb for tcb in self.minimum_tcb if tcb.product is product)


def _check_policy(policy: int) -> None:
    require_range("policies", policy, 2**64 - 1)
    for flag, wanted in (
        (PolicyFlag.RESERVED_MUST_BE_ONE, True),
        (PolicyFlag.DEBUG, False),
        (PolicyFlag.MIGRATE_MA, False),
    ):
        if flag.is_set(policy) is not wanted:
            raise ReferenceValuesError(
                "policies", expected=f"bit {flag.value} ({flag.name}) to be {int(wanted)}", found=f"{policy:#x}"
            )
