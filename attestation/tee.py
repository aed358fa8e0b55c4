"""The names of the trusted execution environments, as an agreement spells them."""

from enum import StrEnum


class Tee(StrEnum):
    """A kind of trusted execution environment. `NONE` is a silo without one: its identity key alone vouches for it."""

    SEV_SNP = "sev-snp"
    TDX = "tdx"
    SGX = "sgx"
    NITRO = "nitro"
    CONFIDENTIAL_SPACE = "confidential-space"
    AZURE_MAA = "azure-maa"
    SIMULATED = "simulated"
    NONE = "none"

    @property
    def simulated(self) -> bool:
        """True for the TEE that protects nothing."""
        return self is Tee.SIMULATED

    @property
    def by_service(self) -> bool:
        """True where a cloud's service vouches for the hardware, and nobody else can tell: the evidence is a token."""
        return self in (Tee.CONFIDENTIAL_SPACE, Tee.AZURE_MAA)
