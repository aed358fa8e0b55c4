"""The names of the trusted execution environments, as an agreement spells them."""

from enum import StrEnum


class Tee(StrEnum):
    """A kind of trusted execution environment. `NONE` is a silo without one: its identity key alone vouches for it."""

    SEV_SNP = "sev-snp"
    SIMULATED = "simulated"
    NONE = "none"

    @property
    def simulated(self) -> bool:
        """True for the TEE that protects nothing."""
        return self is Tee.SIMULATED
