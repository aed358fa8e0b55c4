"""The bit fields of a report: guest policy, platform information, and which key signed.

Source: AMD 56860, GUEST_POLICY, PLATFORM_INFO and ATTESTATION_REPORT (KEY_INFO).
"""

from enum import Enum, StrEnum


class SigningKey(StrEnum):
    """Which key signs a report: the chip's own (VCEK) or a cloud provider's (VLEK)."""

    VCEK = "vcek"
    VLEK = "vlek"


class PolicyFlag(Enum):
    """Bits of GUEST_POLICY above the ABI version (minor in bits 7:0, major in bits 15:8)."""

    SMT = 16
    RESERVED_MUST_BE_ONE = 17
    MIGRATE_MA = 18
    DEBUG = 19
    SINGLE_SOCKET = 20
    CXL_ALLOW = 21
    MEM_AES_256_XTS = 22
    RAPL_DIS = 23
    CIPHERTEXT_HIDING = 24
    PAGE_SWAP_DISABLE = 25

    def is_set(self, policy: int) -> bool:
        """Whether this bit is set in a policy."""
        return bool(policy >> self.value & 1)


class PlatformFlag(StrEnum):
    """Bits of PLATFORM_INFO, by the names that reference values use."""

    SMT = "smt"
    TSME = "tsme"
    ECC = "ecc"
    RAPL_DISABLED = "rapl-disabled"
    CIPHERTEXT_HIDING = "ciphertext-hiding"
    ALIAS_CHECK_COMPLETE = "alias-check-complete"
    TIO = "tio"

    def is_set(self, platform_info: int) -> bool:
        """Whether this bit is set in a PLATFORM_INFO."""
        return bool(platform_info >> _PLATFORM_BIT[self] & 1)


# Bit 6 has no public name and is set on every Turin report seen so far.
_PLATFORM_BIT = {
    PlatformFlag.SMT: 0,
    PlatformFlag.TSME: 1,
    PlatformFlag.ECC: 2,
    PlatformFlag.RAPL_DISABLED: 3,
    PlatformFlag.CIPHERTEXT_HIDING: 4,
    PlatformFlag.ALIAS_CHECK_COMPLETE: 5,
    PlatformFlag.TIO: 7,
}


def known_flags(policy: int) -> tuple[PolicyFlag, ...]:
    """The bits of a guest policy that are set and have a name, but the one that always is."""
    return tuple(flag for flag in PolicyFlag if flag.is_set(policy) and flag is not PolicyFlag.RESERVED_MUST_BE_ONE)


def describe_policy(policy: int) -> str:
    """A guest policy in words: `0x30000 (ABI 0.0, SMT)`; bits without a name are counted as `unknown`."""
    words = [f"ABI {policy >> 8 & 0xFF}.{policy & 0xFF}"]
    words += [flag.name for flag in known_flags(policy)]
    if policy >> 26:
        words.append(f"unknown bits {policy >> 26 << 26:#x}")
    return f"{policy:#x} ({', '.join(words)})"


def describe_platform(platform_info: int) -> str:
    """PLATFORM_INFO in words: `0x25 (smt, ecc, alias-check-complete)`."""
    return f"{platform_info:#x} ({', '.join(flag for flag in PlatformFlag if flag.is_set(platform_info)) or 'none'})"
