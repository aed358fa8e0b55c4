"""Which of this machine's TEEs makes the evidence: the first that the agreement names and the machine offers.

Called by the composition roots of enclave and silo. What is chosen wrongly here is refused by the other side.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectError, NotOffered
from attestation.collect.machine import Machine
from attestation.collect.measurement import installed_code, measure
from attestation.collect.nsm import Nsm
from attestation.collect.platform import Platform, SimulatedPlatform
from attestation.collect.quote_platforms import NitroPlatform, TdxPlatform
from attestation.collect.sev_guest import SevGuest
from attestation.collect.snp_platform import SnpPlatform, through_configfs
from attestation.collect.tsm import PROVIDER_SNP, PROVIDER_TDX, provider_of
from attestation.reference_values import ReferenceValues
from attestation.snp.reference_values import SnpReferenceValues
from attestation.tee import Tee


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
            return _OPEN[tee]([values for values in accepted if values.tee is tee], machine, folder)
        except NotOffered as error:
            reasons.append(f"{tee}: {error}")
    raise NotOffered(f"TEE: expected one that the agreement accepts, found none on this machine ({'; '.join(reasons)})")


def _simulated(accepted: Sequence[ReferenceValues], machine: Machine, folder: EndorsementFolder) -> Platform:
    return SimulatedPlatform(measure(installed_code()))


def _snp(accepted: Sequence[ReferenceValues], machine: Machine, folder: EndorsementFolder) -> Platform:
    """Reports through configfs where it may be used, else through the device; the sealing key through the device."""
    values = [item for item in accepted if isinstance(item, SnpReferenceValues)]
    no_device = machine.sev_guest.obstacle()
    device = SevGuest(machine.sev_guest, machine.vmpl()) if no_device is None else None
    try:
        provider = provider_of(machine.reports)
    except CollectError as error:
        if device is None:
            raise NotOffered(f"{machine.sev_guest.name}: {no_device}; {error}") from error
        return SnpPlatform(reports=device.report, device=device, endorsements=folder, accepted=values)
    if provider != PROVIDER_SNP:
        raise NotOffered(f"{machine.reports.name}: reports by {provider}")
    reports = through_configfs(machine.reports)
    return SnpPlatform(reports=reports, device=device, endorsements=folder, accepted=values)


def _tdx(accepted: Sequence[ReferenceValues], machine: Machine, folder: EndorsementFolder) -> Platform:
    provider = provider_of(machine.reports)
    if provider != PROVIDER_TDX:
        raise NotOffered(f"{machine.reports.name}: reports by {provider}")
    return TdxPlatform(interface=machine.reports, endorsements=folder)


def _nitro(accepted: Sequence[ReferenceValues], machine: Machine, folder: EndorsementFolder) -> Platform:
    why_not = machine.nsm.obstacle()
    if why_not is not None:
        raise NotOffered(f"{machine.nsm.name}: {why_not}")
    return NitroPlatform(module=Nsm(machine.nsm), endorsements=folder)


def _sgx(accepted: Sequence[ReferenceValues], machine: Machine, folder: EndorsementFolder) -> Platform:
    raise NotOffered("this version verifies SGX quotes, and makes none: its processes don't run in an SGX enclave")


_OPEN: dict[Tee, Callable[[Sequence[ReferenceValues], Machine, EndorsementFolder], Platform]] = {
    Tee.SIMULATED: _simulated,
    Tee.SEV_SNP: _snp,
    Tee.TDX: _tdx,
    Tee.NITRO: _nitro,
    Tee.SGX: _sgx,
}
