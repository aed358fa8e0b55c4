"""Where this machine's TEE is asked: the interfaces, real or a test's."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attestation.collect.configfs import TSM_REPORTS, ConfigfsReports
from attestation.collect.errors import CollectionFailed
from attestation.collect.http import HttpService, LocalService
from attestation.collect.kernel import Device, DeviceFile
from attestation.collect.sev_guest import HIGHEST_VMPL
from attestation.collect.tsm import ReportInterface

SEV_GUEST: Final = Path("/dev/sev-guest")
NSM: Final = Path("/dev/nsm")
VMPL: Final = Path("/sys/devices/system/cpu/sev/vmpl")
LAUNCHER_SOCKET: Final = Path("/run/container_launcher/teeserver.sock")
SIDECAR_PORT: Final = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """All interfaces that any TEE might have; most machines have none of them."""

    reports: ReportInterface
    sev_guest: Device
    vmpl: Callable[[], int]
    nsm: Device
    launcher: LocalService
    sidecar: LocalService


def this_machine() -> Machine:
    """The real ones."""
    return Machine(
        reports=ConfigfsReports(TSM_REPORTS, os.urandom),
        sev_guest=DeviceFile(SEV_GUEST),
        vmpl=lambda: read_vmpl(VMPL),
        nsm=DeviceFile(NSM),
        launcher=HttpService.on_socket(LAUNCHER_SOCKET),
        sidecar=HttpService.on_loopback(SIDECAR_PORT),
    )


def read_vmpl(path: Path) -> int:
    """The privilege level that this kernel runs at; 0 where it doesn't say (before Linux 6.11 it runs at no other).

    Raises `CollectionFailed`.
    """
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise CollectionFailed(f"{path}: expected a privilege level, found an unreadable file") from error
    if text not in {str(level) for level in range(HIGHEST_VMPL + 1)}:
        raise CollectionFailed(f"{path}: expected 0 to {HIGHEST_VMPL}, found {text[:40]!a}")
    return int(text)
