"""What an Azure Attestation token says, in the common names."""

from attestation.claims import Claim, Claims, Json
from attestation.token.maa.hardware import Hardware, SgxClaims, SnpClaims, TdxClaims
from attestation.token.maa.token import MaaToken
from attestation.token.nonce import in_words

PRODUCT = "Microsoft Azure Attestation"


def measurement_of(hardware: Hardware) -> bytes:
    """What stands first for the code: launch measurement, MRTD or MRENCLAVE."""
    match hardware:
        case SnpClaims():
            return hardware.launch_measurement
        case TdxClaims():
            return hardware.mrtd
        case SgxClaims():
            return hardware.mr_enclave


def claims_of(token: MaaToken) -> Claims:
    """All claims that are appraised, and some beside them; unverified as they stand."""
    commitments = token.commitments()
    kind = token.attestation_type
    if token.isolation_type not in (None, kind):
        kind += f" on {token.isolation_type}"
    return (
        Claim(name="product", value=PRODUCT, words=f"{PRODUCT}: {kind}, as Azure's service says"),
        Claim(name="attestation_type", value=token.attestation_type, words=kind),
        Claim(
            name="isolation_type", value=token.isolation_type, words=token.isolation_type or "none: not confidential"
        ),
        Claim(
            name="compliance_status", value=token.compliance_status, words=token.compliance_status or "nothing is said"
        ),
        *_hardware(token.hardware),
        Claim(
            name="report_data",
            value=commitments[0].hex() if commitments else None,
            words=commitments[0].hex() if commitments else "none",
        ),
        Claim(
            name="nonce",
            value=None if token.nonce is None else token.nonce.hex(),
            words="none" if token.nonce is None else in_words(token.nonce),
        ),
        *_machine(token),
        Claim(name="signer", value=token.issuer, words=token.issuer),
        Claim(name="policy_hash", value=token.policy_hash.hex(), words=f"attestation policy {token.policy_hash.hex()}"),
        Claim(
            name="valid",
            value={"iat": int(token.lifetime.issued_at.timestamp()), "exp": int(token.lifetime.expires_at.timestamp())},
            words=f"from {token.lifetime.issued_at.isoformat()} until {token.lifetime.expires_at.isoformat()}",
        ),
    )


def _hardware(hardware: Hardware | None) -> Claims:
    if hardware is None:
        return (Claim(name="measurements", value={}, words="none"),)
    debug = "the host may look inside" if hardware.debug else "debugging is off"
    measurements, tcb = _measurements(hardware), _tcb(hardware)
    claims = (
        Claim(
            name="measurements",
            value=dict(measurements),
            words="; ".join(f"{name} {value}" for name, value in measurements.items()),
        ),
        Claim(name="tcb", value=tcb, words=", ".join(f"{name} {value}" for name, value in tcb.items())),
        Claim(name="debug", value=hardware.debug, words=debug),
    )
    if not isinstance(hardware, SnpClaims):
        return claims
    return (
        *claims,
        Claim(name="vmpl", value=hardware.vmpl, words=f"privilege level {hardware.vmpl}"),
        Claim(name="host_data", value=hardware.host_data.hex(), words=hardware.host_data.hex()),
        Claim(name="migration", value=hardware.migration_allowed, words=f"migration: {hardware.migration_allowed}"),
    )


def _measurements(hardware: Hardware) -> dict[str, str]:
    match hardware:
        case SnpClaims():
            return {"launch_measurement": hardware.launch_measurement.hex()}
        case TdxClaims():
            registers = {f"rtmr{index}": value.hex() for index, value in enumerate(hardware.rtmrs)}
            return {"mrtd": hardware.mrtd.hex(), **registers}
        case SgxClaims():
            return {"mr_enclave": hardware.mr_enclave.hex(), "mr_signer": hardware.mr_signer.hex()}


def _tcb(hardware: Hardware) -> dict[str, Json]:
    match hardware:
        case SnpClaims():
            return {f"{name}_svn": value for name, value in (*hardware.svns.items(), ("guest", hardware.guest_svn))}
        case TdxClaims():
            return {"attester_tcb_status": hardware.tcb_status}
        case SgxClaims():
            return {"product_id": hardware.product_id, "svn": hardware.svn}


def _machine(token: MaaToken) -> Claims:
    machine = token.machine
    if machine is None:
        return ()
    debug: list[Json] = list(machine.debug)
    return (
        Claim(name="vm_id", value=machine.vm_id, words=f"{machine.vm_id}"),
        Claim(name="secboot", value=machine.secure_boot, words=f"secure boot {machine.secure_boot}"),
        Claim(name="vm_debug", value=debug, words=", ".join(machine.debug) or "no debugging of the VM's boot"),
    )
