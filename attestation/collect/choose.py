"""Which of this machine's TEEs makes the evidence: the first that the agreement names and the machine offers.

Called by the composition roots of enclave and silo, and by `attest collect`, which has no agreement. What is chosen
wrongly here is refused by the other side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectError, NotOffered
from attestation.collect.machine import Machine
from attestation.collect.measurement import installed_code, measure
from attestation.collect.nsm import Nsm
from attestation.collect.platform import Platform, SimulatedPlatform
from attestation.collect.quote_platforms import NitroPlatform, TdxPlatform
from attestation.collect.sev_guest import SevGuest
from attestation.collect.snp_platform import ReportSource, SnpPlatform, through_configfs
from attestation.collect.token_endpoints import TokenType
from attestation.collect.token_platforms import AzurePlatform, ConfidentialSpacePlatform
from attestation.collect.tsm import PROVIDER_SNP, PROVIDER_TDX, provider_of
from attestation.reference_values import ReferenceValues
from attestation.snp.reference_values import SnpReferenceValues
from attestation.tee import Tee
from attestation.token.confidential_space.reference_values import GOOGLE_ROOT, ConfidentialSpaceReferenceValues
from attestation.token.maa.reference_values import MaaReferenceValues
from attestation.token.maa.token import AttestationType


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a TEE has to know in order to make evidence that is accepted.

    `snp`: the accepted SEV-SNP guests, whose minimum TCB the sealing key depends on. `audience` and `token_type`: whom
    a token of Google's is for, and how it is to be signed; `issuer`: which of Microsoft's services is to sign one. None
    where nobody said.
    """

    machine: Machine
    folder: EndorsementFolder
    snp: tuple[SnpReferenceValues, ...]
    audience: str | None
    token_type: TokenType
    issuer: str | None


def open_platform(accepted: Sequence[ReferenceValues], *, machine: Machine, endorsements: Path | None) -> Platform:
    """The TEE to use under these reference values, in their order.

    `endorsements`: the folder of what the hardware doesn't hand out. Raises `NotOffered` saying why not for each TEE
    that is accepted, `CollectionFailed` if the folder can't be read, `NotMeasurable` where the TEE is simulated and the
    code can't be measured.
    """
    folder = EndorsementFolder(endorsements)
    folder.read()
    reasons = []
    for tee in dict.fromkeys(values.tee for values in accepted):
        try:
            return open_tee(tee, _request([values for values in accepted if values.tee is tee], machine, folder))
        except NotOffered as error:
            reasons.append(f"{tee}: {error}")
    raise NotOffered(f"TEE: expected one that the agreement accepts, found none on this machine ({'; '.join(reasons)})")


def open_tee(tee: Tee, request: Request) -> Platform:
    """One TEE of this machine; raises `NotOffered`."""
    return _OPEN[tee](request)


def _request(accepted: Sequence[ReferenceValues], machine: Machine, folder: EndorsementFolder) -> Request:
    """The first audience, kind of key and service that are accepted: one token can have only one."""
    space = next((values for values in accepted if isinstance(values, ConfidentialSpaceReferenceValues)), None)
    # Of what Microsoft attests, the sidecar has this to offer.
    group = next((values for values in accepted if isinstance(values, MaaReferenceValues) and _is_group(values)), None)
    return Request(
        machine=machine,
        folder=folder,
        snp=tuple(values for values in accepted if isinstance(values, SnpReferenceValues)),
        audience=None if space is None else space.audiences[0],
        token_type=TokenType.OIDC if space is not None and space.signing_keys != GOOGLE_ROOT else TokenType.PKI,
        issuer=None if group is None else group.issuers[0],
    )


def _is_group(values: MaaReferenceValues) -> bool:
    return values.attestation_type is AttestationType.SEV_SNP_VM


def _simulated(request: Request) -> Platform:
    return SimulatedPlatform(measure(installed_code()))


def _snp(request: Request) -> Platform:
    """Reports through configfs where it may be used, else through the device; the sealing key through the device."""
    machine = request.machine
    no_device = machine.sev_guest.obstacle()
    device = SevGuest(machine.sev_guest, machine.vmpl()) if no_device is None else None
    try:
        provider = provider_of(machine.reports)
    except CollectError as error:
        if device is None:
            raise NotOffered(f"{machine.sev_guest.name}: {no_device}; {error}") from error
        reports: ReportSource = device.report
    else:
        if provider != PROVIDER_SNP:
            raise NotOffered(f"{machine.reports.name}: reports by {provider}")
        reports = through_configfs(machine.reports)
    return SnpPlatform(reports=reports, device=device, endorsements=request.folder, accepted=request.snp)


def _tdx(request: Request) -> Platform:
    reports = request.machine.reports
    provider = provider_of(reports)
    if provider != PROVIDER_TDX:
        raise NotOffered(f"{reports.name}: reports by {provider}")
    return TdxPlatform(interface=reports, endorsements=request.folder)


def _nitro(request: Request) -> Platform:
    device = request.machine.nsm
    _require(device.name, device.obstacle())
    return NitroPlatform(module=Nsm(device), endorsements=request.folder)


def _confidential_space(request: Request) -> Platform:
    launcher = request.machine.launcher
    _require(launcher.name, launcher.obstacle())
    if request.audience is None:
        raise NotOffered(f"{launcher.name}: expected an audience to ask a token for, found none")
    return ConfidentialSpacePlatform(
        launcher=launcher, audience=request.audience, token_type=request.token_type, endorsements=request.folder
    )


def _azure(request: Request) -> Platform:
    sidecar = request.machine.sidecar
    _require(sidecar.name, sidecar.obstacle())
    if request.issuer is None:
        raise NotOffered(f"{sidecar.name}: expected an attestation service to ask for a sevsnpvm token, found none")
    try:
        return AzurePlatform(sidecar=sidecar, issuer=request.issuer, endorsements=request.folder)
    except ValueError as error:
        raise NotOffered(str(error)) from error


def _sgx(request: Request) -> Platform:
    raise NotOffered("this version verifies SGX quotes, and makes none: its processes don't run in an SGX enclave")


def _require(name: str, why_not: str | None) -> None:
    if why_not is not None:
        raise NotOffered(f"{name}: {why_not}")


_OPEN: Final[dict[Tee, Callable[[Request], Platform]]] = {
    Tee.SIMULATED: _simulated,
    Tee.SEV_SNP: _snp,
    Tee.TDX: _tdx,
    Tee.NITRO: _nitro,
    Tee.CONFIDENTIAL_SPACE: _confidential_space,
    Tee.AZURE_MAA: _azure,
    Tee.SGX: _sgx,
}
