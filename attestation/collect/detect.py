"""What this machine offers, interface by interface, and why not where it offers nothing.

Asks for no report. That an interface is there proves nothing: only what it signs does, to somebody else.
"""

from dataclasses import dataclass

from attestation.collect.errors import CollectError
from attestation.collect.kernel import Device
from attestation.collect.machine import Machine
from attestation.collect.nsm import Nsm
from attestation.collect.tsm import PROVIDER_SNP, PROVIDER_TDX, provider_of
from attestation.tee import Tee

_PROVIDERS = {PROVIDER_SNP: Tee.SEV_SNP, PROVIDER_TDX: Tee.TDX}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One interface: whose evidence it gives, or None; `words` say what it is good for, or why not."""

    interface: str
    tee: Tee | None
    words: str


def survey(machine: Machine) -> tuple[Offer, ...]:
    """Look at every interface; raises nothing."""
    return (
        _configfs(machine),
        _sev_guest(machine.sev_guest),
        _nsm(machine.nsm),
        _service(machine.launcher.name, machine.launcher.obstacle(), Tee.CONFIDENTIAL_SPACE),
        _service(machine.sidecar.name, machine.sidecar.obstacle(), Tee.AZURE_MAA),
    )


def _configfs(machine: Machine) -> Offer:
    name = machine.reports.name
    try:
        provider = provider_of(machine.reports)
    except CollectError as error:
        return Offer(interface=name, tee=None, words=str(error).removeprefix(f"{name}: "))
    tee = _PROVIDERS.get(provider)
    if tee is None:
        return Offer(interface=name, tee=None, words=f"reports by {provider}, which this version can't read")
    return Offer(interface=name, tee=tee, words=f"reports by {provider}")


def _sev_guest(device: Device) -> Offer:
    why_not = device.obstacle()
    if why_not is not None:
        return Offer(interface=device.name, tee=None, words=why_not)
    return Offer(interface=device.name, tee=Tee.SEV_SNP, words="reports, the host's certificates and a sealing key")


def _nsm(device: Device) -> Offer:
    why_not = device.obstacle()
    if why_not is not None:
        return Offer(interface=device.name, tee=None, words=why_not)
    try:
        return Offer(interface=device.name, tee=Tee.NITRO, words=f"documents by {Nsm(device).describe()}")
    except CollectError as error:
        return Offer(interface=device.name, tee=None, words=str(error).removeprefix(f"{device.name}: "))


def _service(name: str, why_not: str | None, tee: Tee) -> Offer:
    if why_not is not None:
        return Offer(interface=name, tee=None, words=why_not)
    words = (
        "tokens, if what listens there is the launcher"
        if tee is Tee.CONFIDENTIAL_SPACE
        else ("tokens, if what listens there is the attestation sidecar")
    )
    return Offer(interface=name, tee=tee, words=words)
