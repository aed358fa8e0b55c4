"""What Azure's tokens say of the hardware: SEV-SNP reports, TDX quotes and SGX quotes, claim by claim.

Trusts nothing. Every claim that is appraised must be there. Sources: as for `maa.token`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from attestation.token.claim_set import ClaimSet
from attestation.token.jws import decode_base64url

REPORT_DATA_BYTES: Final = 64
SVNS: Final = ("bootloader", "tee", "snpfw", "microcode")
_SNP = "x-ms-sevsnpvm-"
_SGX = "x-ms-sgx-"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpClaims:
    """An AMD SEV-SNP report as Azure states it; sizes in bytes as in the report. `svns`: the TCB's, by name."""

    launch_measurement: bytes
    host_data: bytes
    report_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    guest_svn: int
    svns: Mapping[str, int]
    vmpl: int
    is_debuggable: bool
    migration_allowed: bool
    smt_allowed: bool

    @classmethod
    def read(cls, claims: ClaimSet) -> "SnpClaims":
        """Read the claims named `x-ms-sevsnpvm-…`; raises `EvidenceMalformed`."""
        return cls(
            launch_measurement=claims.hexadecimal(f"{_SNP}launchmeasurement", 48),
            host_data=claims.hexadecimal(f"{_SNP}hostdata", 32),
            report_data=claims.hexadecimal(f"{_SNP}reportdata", REPORT_DATA_BYTES),
            id_key_digest=claims.hexadecimal(f"{_SNP}idkeydigest", 48),
            author_key_digest=claims.hexadecimal(f"{_SNP}authorkeydigest", 48),
            guest_svn=claims.integer(f"{_SNP}guestsvn", 2**32 - 1),
            svns={name: claims.integer(f"{_SNP}{name}-svn", 255) for name in SVNS},
            vmpl=claims.integer(f"{_SNP}vmpl", 2**32 - 1),
            is_debuggable=claims.boolean(f"{_SNP}is-debuggable"),
            migration_allowed=claims.boolean(f"{_SNP}migration-allowed"),
            smt_allowed=claims.boolean(f"{_SNP}smt-allowed"),
        )

    @property
    def debug(self) -> bool:
        """Whether the host may look inside."""
        return self.is_debuggable

    def commitments(self) -> tuple[bytes, ...]:
        """The report's own report data."""
        return (self.report_data,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxClaims:
    """An Intel TDX quote as Azure states it; sizes in bytes as in the quote."""

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    report_data: bytes
    td_attributes: bytes
    xfam: bytes
    tcb_status: str
    debug_status: str
    is_debuggable: bool

    @classmethod
    def read(cls, claims: ClaimSet) -> "TdxClaims":
        """Read the claims named `tdx_…` and `attester_tcb_status`; raises `EvidenceMalformed`."""
        first, second, third, fourth = (claims.hexadecimal(f"tdx_rtmr{index}", 48) for index in range(4))
        return cls(
            mrtd=claims.hexadecimal("tdx_mrtd", 48),
            rtmrs=(first, second, third, fourth),
            mrseam=claims.hexadecimal("tdx_mrseam", 48),
            mrsignerseam=claims.hexadecimal("tdx_mrsignerseam", 48),
            seam_attributes=claims.hexadecimal("tdx_seam_attributes", 8),
            mrconfigid=claims.hexadecimal("tdx_mrconfigid", 48),
            mrowner=claims.hexadecimal("tdx_mrowner", 48),
            mrownerconfig=claims.hexadecimal("tdx_mrownerconfig", 48),
            report_data=claims.hexadecimal("tdx_report_data", REPORT_DATA_BYTES),
            td_attributes=claims.hexadecimal("tdx_td_attributes", 8),
            xfam=claims.hexadecimal("tdx_xfam", 8),
            tcb_status=claims.text("attester_tcb_status"),
            debug_status=claims.text("dbgstat"),
            is_debuggable=claims.boolean("tdx_td_attributes_debug"),
        )

    @property
    def debug(self) -> bool:
        """Whether the host may look inside, by any of the three places that say so."""
        return self.is_debuggable or not self.debug_status.startswith("disabled") or bool(self.td_attributes[0] & 1)

    def commitments(self) -> tuple[bytes, ...]:
        """The quote's own report data."""
        return (self.report_data,)


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxClaims:
    """An Intel SGX quote as Azure states it; sizes in bytes as in the quote.

    `held_data` is what the enclave gave along with its quote: Azure issues no token unless the report data is its
    digest. `config_id` is zero where the enclave was launched without one.
    """

    mr_enclave: bytes
    mr_signer: bytes
    product_id: int
    svn: int
    is_debuggable: bool
    report_data: bytes | None
    held_data: bytes | None
    config_id: bytes

    @classmethod
    def read(cls, claims: ClaimSet) -> "SgxClaims":
        """Read the claims named `x-ms-sgx-…`; raises `EvidenceMalformed`."""
        report_data, held_data, config_id = (f"{_SGX}{name}" for name in ("report-data", "ehd", "config-id"))
        return cls(
            mr_enclave=claims.hexadecimal(f"{_SGX}mrenclave", 32),
            mr_signer=claims.hexadecimal(f"{_SGX}mrsigner", 32),
            product_id=claims.integer(f"{_SGX}product-id", 2**16 - 1),
            svn=claims.integer(f"{_SGX}svn", 2**16 - 1),
            is_debuggable=claims.boolean(f"{_SGX}is-debuggable"),
            report_data=claims.hexadecimal(report_data, REPORT_DATA_BYTES) if claims.has(report_data) else None,
            held_data=decode_base64url(claims.text(held_data).encode("utf-8"), held_data)
            if claims.has(held_data)
            else None,
            config_id=claims.hexadecimal(config_id, 64) if claims.has(config_id) else bytes(64),
        )

    @property
    def debug(self) -> bool:
        """Whether the host may look inside."""
        return self.is_debuggable

    def commitments(self) -> tuple[bytes, ...]:
        """The quote's report data, and what it is the digest of, where they are stated."""
        return tuple(value for value in (self.report_data, self.held_data) if value)


Hardware: TypeAlias = SnpClaims | TdxClaims | SgxClaims
