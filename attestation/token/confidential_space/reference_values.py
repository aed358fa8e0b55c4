"""Reference values for Confidential Space: what Google's token must say to be accepted.

They come from the agreement and have no defaults. What no value can allow is refused always: debug images, no secure
boot, an issuer other than Google's service.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from attestation.errors import ReferenceValuesError
from attestation.tee import Tee
from attestation.terms import Covers, Revocation, require_filled, require_range, require_size, require_texts

ANY: Final = "any"
GOOGLE_ROOT: Final = "google-root"
DIGEST_BYTES: Final = 32
THUMBPRINT_BYTES: Final = 32
MAXIMUM_AGE_SECONDS: Final = 24 * 3600
MAXIMUM_VERSION: Final = 99_999_999


class HardwareModel(StrEnum):
    """What the machine protects its memory with. A shielded VM does not, and is not here."""

    GCP_AMD_SEV = "GCP_AMD_SEV"
    GCP_AMD_SEV_ES = "GCP_AMD_SEV_ES"
    GCP_INTEL_TDX = "GCP_INTEL_TDX"


class SupportAttribute(StrEnum):
    """How Google stands to an image of Confidential Space today: experimental, usable, stable, the latest."""

    EXPERIMENTAL = "EXPERIMENTAL"
    USABLE = "USABLE"
    STABLE = "STABLE"
    LATEST = "LATEST"


class Gpu(StrEnum):
    """Whether the machine may have a GPU: none, or one whose confidential computing is fully on."""

    ABSENT = "absent"
    ON = "on"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialSpaceReferenceValues:
    """One accepted kind of workload. Raises `ReferenceValuesError` if empty, contradictory or out of range.

    - `signing_keys`: `GOOGLE_ROOT` for PKI tokens, which bring their chain to Google's pinned root; or, for OIDC
      tokens, the thumbprints (RFC 7638, SHA-256, 32 bytes each) of Google's keys, whose set then has to come along.
    - `audiences`: whom the token may be for, exactly.
    - `maximum_age_seconds`: how old a token may be at the time given; it must not have expired in any case.
    - `hwmodels`: accepted hardware. AMD SEV without SNP does not protect the integrity of memory, and warns.
    - `tcb_statuses`: accepted TCB statuses of Intel TDX; given if and only if that is accepted.
    - `minimum_swversion`: the oldest Confidential Space image (250800).
    - `support_attributes`: what the image must be called, all of them.
    - `memory_monitoring`: whether Google's agent for memory usage may run beside the workload.
    - `image_digests`: accepted workload images (SHA-256, 32 bytes each).
    - `image_references`: where they may have been pulled from, exactly, or `ANY`.
    - `cmd_override`, `env_override`: what the operator changed of the image's command and environment; exactly that,
      and nothing where empty.
    - `project_ids`; `zones` or `ANY`: where it runs.
    - `service_accounts`: whom it may run as, or `ANY`; at least one, and all of the token's must be among them.
    - `gpu`: whether there may be one.
    - `revocation`: `SHORT_LIVED`; tokens live an hour.
    - `covers`: the image's digest reaches the code.
    """

    tee: Tee
    signing_keys: tuple[bytes, ...] | Literal["google-root"]
    audiences: tuple[str, ...]
    maximum_age_seconds: int
    hwmodels: tuple[HardwareModel, ...]
    tcb_statuses: tuple[str, ...]
    minimum_swversion: int
    support_attributes: tuple[SupportAttribute, ...]
    memory_monitoring: bool
    image_digests: tuple[bytes, ...]
    image_references: tuple[str, ...] | Literal["any"]
    cmd_override: tuple[str, ...]
    env_override: tuple[tuple[str, str], ...]
    project_ids: tuple[str, ...]
    zones: tuple[str, ...] | Literal["any"]
    service_accounts: tuple[str, ...] | Literal["any"]
    gpu: Gpu
    revocation: Revocation
    covers: Covers

    def __post_init__(self) -> None:
        if self.tee is not Tee.CONFIDENTIAL_SPACE:
            raise ReferenceValuesError("tee", expected="confidential-space", found=str(self.tee))
        if self.signing_keys != GOOGLE_ROOT:
            require_filled("signing_keys", self.signing_keys)
            for thumbprint in self.signing_keys:
                require_size("signing_keys", thumbprint, THUMBPRINT_BYTES)
        for name in ("audiences", "hwmodels", "support_attributes", "image_digests", "project_ids"):
            require_filled(name, getattr(self, name))
        for name in ("image_references", "zones", "service_accounts"):
            if (accepted := getattr(self, name)) != ANY:
                require_filled(name, accepted)
                require_texts(name, accepted)
        for name in ("audiences", "tcb_statuses", "project_ids"):
            require_texts(name, getattr(self, name))
        require_texts("cmd_override", self.cmd_override, shortest=0)
        require_texts("env_override", [text for pair in self.env_override for text in pair], shortest=0)
        for digest in self.image_digests:
            require_size("image_digests", digest, DIGEST_BYTES)
        require_range("maximum_age_seconds", self.maximum_age_seconds, MAXIMUM_AGE_SECONDS)
        require_range("minimum_swversion", self.minimum_swversion, MAXIMUM_VERSION)
        if (HardwareModel.GCP_INTEL_TDX in self.hwmodels) is not bool(self.tcb_statuses):
            raise ReferenceValuesError(
                "tcb_statuses",
                expected="some if and only if GCP_INTEL_TDX is accepted",
                found=", ".join(self.tcb_statuses) or "none",
            )
        if tuple(sorted(self.env_override)) != self.env_override or len(dict(self.env_override)) != len(
            self.env_override
        ):
            raise ReferenceValuesError("env_override", expected="names in order, none twice", found="another order")
        if self.revocation is not Revocation.SHORT_LIVED:
            raise ReferenceValuesError(
                "revocation", expected=f'"{Revocation.SHORT_LIVED}": tokens live an hour', found=self.revocation
            )
