"""What a Confidential Space token says, in the common names."""

from attestation.claims import Claim, Claims, Json
from attestation.token.confidential_space.token import ConfidentialSpaceToken

PRODUCT = "Google Confidential Space"
DEBUG_DISABLED = "disabled-since-boot"


def claims_of(token: ConfidentialSpaceToken) -> Claims:
    """All claims that are appraised, and some beside them; unverified as they stand."""
    digest = None if token.image_digest is None else token.image_digest.hex()
    debug = token.debug_status != DEBUG_DISABLED
    tcb: dict[str, Json] = {"swversion": token.software_version, "support_attributes": list(token.support_attributes)}
    tcb |= {"gcp_attester_tcb_status": token.tcb_status, "gcp_attester_tcb_date": token.tcb_date}
    override: dict[str, Json] = dict(token.environment_override)
    return (
        Claim(name="product", value=PRODUCT, words=f"{PRODUCT}, as Google's service says"),
        Claim(name="measurements", value={"image_digest": digest}, words=f"workload image sha256:{digest}"),
        _commitment(token.nonces),
        Claim(
            name="tcb",
            value=tcb,
            words=f"Confidential Space image {token.software_version} ({_listed(token.support_attributes)}); "
            f"TDX TCB {token.tcb_status or 'not stated'}",
        ),
        Claim(name="debug", value=debug, words=f"dbgstat {token.debug_status}"),
        Claim(name="signer", value=token.issuer, words=token.issuer),
        Claim(name="nonce", value=list(token.nonces), words=_listed(token.nonces)),
        Claim(name="audience", value=token.audience, words=token.audience),
        Claim(name="hwmodel", value=token.hardware_model, words=f"{token.hardware_model}"),
        Claim(name="secboot", value=token.secure_boot, words=f"secure boot {token.secure_boot}"),
        Claim(name="swname", value=token.software_name, words=f"{token.software_name}"),
        Claim(name="image_reference", value=token.image_reference, words=f"{token.image_reference}"),
        Claim(name="args", value=list(token.arguments), words=_listed(token.arguments)),
        Claim(name="cmd_override", value=list(token.command_override), words=_listed(token.command_override)),
        Claim(name="env_override", value=override, words=_listed(tuple(override))),
        Claim(name="restart_policy", value=token.restart_policy, words=f"restarts: {token.restart_policy}"),
        Claim(name="memory_monitoring", value=token.memory_monitoring, words=f"{token.memory_monitoring}"),
        Claim(name="gpu", value=token.gpu_mode, words=token.gpu_mode or "none"),
        Claim(
            name="place",
            value={"project_id": token.project_id, "zone": token.zone, "instance_name": token.instance_name},
            words=f"instance {token.instance_name} of project {token.project_id} in {token.zone}",
        ),
        Claim(name="service_accounts", value=list(token.service_accounts), words=_listed(token.service_accounts)),
        Claim(
            name="valid",
            value={"iat": int(token.lifetime.issued_at.timestamp()), "exp": int(token.lifetime.expires_at.timestamp())},
            words=f"from {token.lifetime.issued_at.isoformat()} until {token.lifetime.expires_at.isoformat()}",
        ),
    )


def _commitment(nonces: tuple[str, ...]) -> Claim:
    """A token commits to its nonce's bytes; with several, to none alone."""
    if len(nonces) != 1:
        return Claim(name="report_data", value=None, words=f"{len(nonces)} nonces")
    return Claim(name="report_data", value=nonces[0].encode("utf-8").hex(), words=f"the nonce {nonces[0]}")


def _listed(items: tuple[str, ...]) -> str:
    return ", ".join(items) or "none"
