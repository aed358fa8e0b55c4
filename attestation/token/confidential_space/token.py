"""What a Confidential Space token claims, typed.

Trusts nothing. What has a form is read strictly; what is missing is None or empty here and refused by the appraisal,
which names it. Source: Google, "Attestation token claims" (Confidential Space documentation).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from attestation.errors import EvidenceMalformed
from attestation.token.claim_set import ClaimSet
from attestation.token.lifetime import Lifetime

MAXIMUM_NONCES: Final = 6
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_VERSION = re.compile(r"[0-9]{6,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialSpaceToken:
    """A token's claims.

    `software_version` is the image's, a number that grows (250800: the first of August 2025). `image_digest` has 32
    bytes. `command_override` and `environment_override` are what the operator changed, empty where nothing.
    """

    issuer: str
    audience: str
    subject: str | None
    lifetime: Lifetime
    nonces: tuple[str, ...]
    hardware_model: str | None
    oem_id: int | None
    attester_tcb: tuple[str, ...]
    tcb_status: str | None
    tcb_date: str | None
    software_name: str | None
    software_version: int | None
    debug_status: str | None
    secure_boot: bool | None
    support_attributes: tuple[str, ...]
    memory_monitoring: bool | None
    image_reference: str | None
    image_digest: bytes | None
    restart_policy: str | None
    arguments: tuple[str, ...]
    command_override: tuple[str, ...]
    environment_override: tuple[tuple[str, str], ...]
    project_id: str | None
    zone: str | None
    instance_name: str | None
    service_accounts: tuple[str, ...]
    gpu_mode: str | None

    @classmethod
    def read(cls, payload: Mapping[str, object]) -> "ConfidentialSpaceToken":
        """Read a token's payload; raises `EvidenceMalformed` naming the claim."""
        claims = ClaimSet(payload)
        modules = claims.inner("submods")
        image, container, machine = (modules.inner(name) for name in ("confidential_space", "container", "gce"))
        tdx = _tdx(claims)
        return cls(
            issuer=claims.text("iss"),
            audience=claims.text("aud"),
            subject=claims.optional_text("sub"),
            lifetime=Lifetime.read(claims),
            nonces=_nonces(claims),
            hardware_model=claims.optional_text("hwmodel"),
            oem_id=claims.integer("oemid") if claims.has("oemid") else None,
            attester_tcb=claims.texts("attester_tcb"),
            tcb_status=tdx.optional_text("gcp_attester_tcb_status"),
            tcb_date=tdx.optional_text("gcp_attester_tcb_date"),
            software_name=claims.optional_text("swname"),
            software_version=_version(claims),
            debug_status=claims.optional_text("dbgstat"),
            secure_boot=claims.optional_boolean("secboot"),
            support_attributes=image.texts("support_attributes"),
            memory_monitoring=image.inner("monitoring_enabled").optional_boolean("memory"),
            image_reference=container.optional_text("image_reference"),
            image_digest=_digest(container),
            restart_policy=container.optional_text("restart_policy"),
            arguments=container.texts("args"),
            command_override=container.texts("cmd_override"),
            environment_override=container.text_map("env_override"),
            project_id=machine.optional_text("project_id"),
            zone=machine.optional_text("zone"),
            instance_name=machine.optional_text("instance_name"),
            service_accounts=claims.texts("google_service_accounts"),
            gpu_mode=_gpu_mode(modules),
        )


def _nonces(claims: ClaimSet) -> tuple[str, ...]:
    if isinstance(claims.raw("eat_nonce"), str):
        return (claims.text("eat_nonce"),)
    nonces = claims.texts("eat_nonce")
    if len(nonces) > MAXIMUM_NONCES:
        raise EvidenceMalformed("eat_nonce", expected=f"at most {MAXIMUM_NONCES}", found=str(len(nonces)))
    return nonces


def _tdx(claims: ClaimSet) -> ClaimSet:
    """Documented as a list of one object, written as an object."""
    value = claims.raw("tdx")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return ClaimSet(value[0], claims.path("tdx"))
    return claims.inner("tdx")


def _version(claims: ClaimSet) -> int | None:
    versions = claims.texts("swversion")
    if not versions:
        return None
    if len(versions) != 1 or not _VERSION.fullmatch(versions[0]):
        raise EvidenceMalformed("swversion", expected="one number of 6 to 8 digits", found=ascii(versions)[:80])
    return int(versions[0])


def _digest(container: ClaimSet) -> bytes | None:
    text = container.optional_text("image_digest")
    if text is None:
        return None
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise EvidenceMalformed(container.path("image_digest"), expected="sha256:…", found=ascii(text)[:80])
    return bytes.fromhex(match[1])


def _gpu_mode(modules: ClaimSet) -> str | None:
    """The mode of a GPU that there is; one that says nothing of it has a mode that nobody accepts."""
    if not modules.has("nvidia_gpu"):
        return None
    return modules.inner("nvidia_gpu").optional_text("cc_mode") or "unknown"
