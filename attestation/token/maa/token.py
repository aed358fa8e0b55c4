"""What a token of Microsoft Azure Attestation claims, typed.

Trusts nothing. The hardware's claims stand in the token itself, or, for an Azure VM, in its `x-ms-isolation-tee`,
while the rest of such a token is about the VM's boot. An Azure VM without that is not confidential.

Sources: Microsoft, "Claim sets", "Examples of an attestation token" and "Azure Attestation EAT profile for Intel TDX"
(Azure Attestation documentation).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from attestation.errors import EvidenceMalformed
from attestation.token.claim_set import ClaimSet
from attestation.token.jws import Jws, decode_base64, decode_base64url
from attestation.token.lifetime import Lifetime
from attestation.token.maa.hardware import Hardware, SgxClaims, SnpClaims, TdxClaims

DOMAIN: Final = ".attest.azure.net"
VERSION: Final = "1.0"
TYPE: Final = "x-ms-attestation-type"
ISOLATION: Final = "x-ms-isolation-tee"
POLICY_HASH_BYTES: Final = 32
# Claims about an Azure VM that mean, when they are true, that somebody can look into it.
DEBUG_FLAGS: Final = (
    "x-ms-azurevm-bootdebug-enabled",
    "x-ms-azurevm-flightsigning-enabled",
    "x-ms-azurevm-hypervisordebug-enabled",
    "x-ms-azurevm-kerneldebug-enabled",
    "x-ms-azurevm-testsigning-enabled",
)


class AttestationType(StrEnum):
    """What was attested: an Azure VM with a provider's paravisor below it, or hardware itself."""

    AZURE_VM = "azurevm"
    SEV_SNP_VM = "sevsnpvm"
    TDX_VM = "tdxvm"
    SGX = "sgx"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualMachine:
    """What a token says of an Azure VM's boot. `debug` names the flags that are on."""

    vm_id: str | None
    secure_boot: bool | None
    debug: tuple[str, ...]
    debuggers_disabled: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaaToken:
    """A token's claims.

    `attestation_type` is the token's own, `isolation_type` the hardware's: the same, except for an Azure VM, which has
    `machine` too. `hardware` is None where nothing isolates it. `nonce` is what the caller of the service gave.
    """

    issuer: str
    lifetime: Lifetime
    version: str | None
    policy_hash: bytes
    attestation_type: str
    isolation_type: str | None
    compliance_status: str | None
    hardware: Hardware | None
    machine: VirtualMachine | None
    nonce: bytes | None

    @classmethod
    def read(cls, payload: Mapping[str, object]) -> "MaaToken":
        """Read a token's payload; raises `EvidenceMalformed` naming the claim."""
        claims = ClaimSet(payload)
        attestation_type = claims.text(TYPE)
        is_vm = attestation_type == AttestationType.AZURE_VM
        isolation = claims.inner(ISOLATION) if is_vm else claims
        isolation_type = isolation.optional_text(TYPE)
        return cls(
            issuer=claims.text("iss"),
            lifetime=Lifetime.read(claims),
            version=claims.optional_text("x-ms-ver"),
            policy_hash=_policy_hash(claims),
            attestation_type=attestation_type,
            isolation_type=isolation_type,
            compliance_status=isolation.optional_text("x-ms-compliance-status"),
            hardware=_hardware(isolation, isolation_type),
            machine=_machine(claims, isolation) if is_vm else None,
            nonce=_nonce(claims),
        )

    def commitments(self) -> tuple[bytes, ...]:
        """What the token commits to: an Azure VM's nonce; otherwise the hardware's report data, or what it is of."""
        if self.machine is not None:
            return () if self.nonce is None else (self.nonce,)
        return () if self.hardware is None else self.hardware.commitments()


def is_maa(jws: Jws) -> bool:
    """Whether a token looks like Microsoft's; never raises."""
    issuer = jws.payload.get("iss")
    return TYPE in jws.payload or (isinstance(issuer, str) and issuer.endswith(DOMAIN))


def _hardware(claims: ClaimSet, isolation_type: str | None) -> Hardware | None:
    match isolation_type:
        case AttestationType.SEV_SNP_VM:
            return SnpClaims.read(claims)
        case AttestationType.TDX_VM:
            return TdxClaims.read(claims)
        case AttestationType.SGX:
            return SgxClaims.read(claims)
    return None


def _machine(claims: ClaimSet, isolation: ClaimSet) -> VirtualMachine:
    configuration = isolation.inner("x-ms-runtime").inner("vm-configuration")
    secure_boot, configured = claims.optional_boolean("secureboot"), configuration.optional_boolean("secure-boot")
    return VirtualMachine(
        vm_id=claims.optional_text("x-ms-azurevm-vmid"),
        secure_boot=False if configured is False else secure_boot,
        debug=tuple(name for name in DEBUG_FLAGS if claims.optional_boolean(name)),
        debuggers_disabled=claims.optional_boolean("x-ms-azurevm-debuggersdisabled"),
    )


def _policy_hash(claims: ClaimSet) -> bytes:
    name = "x-ms-policy-hash"
    value = decode_base64url(claims.text(name).encode("utf-8"), name)
    if len(value) != POLICY_HASH_BYTES:
        raise EvidenceMalformed(name, expected=f"{POLICY_HASH_BYTES} bytes", found=str(len(value)))
    return value


def _nonce(claims: ClaimSet) -> bytes | None:
    payload = claims.inner("x-ms-runtime").inner("client-payload")
    return decode_base64(payload.text("nonce"), payload.path("nonce")) if payload.has("nonce") else None
