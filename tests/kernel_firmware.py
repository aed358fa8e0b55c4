"""An SNP firmware for the fakes of the kernel: the simulated chip, asked as the real one is.

Follows AMD 56860: MSG_REPORT_REQ and MSG_KEY_REQ with their statuses. A test that wants its reports to count as real
ones says so itself (`as_vendor`).
"""

import hmac
from dataclasses import dataclass, field, replace
from hashlib import sha512

import pytest

from attestation.collect.sev_guest import GuestField
from attestation.families import FAMILIES
from attestation.simulated.chip import SIMULATED_POLICY, SIMULATED_TCB, simulated_chip
from attestation.simulated.roots import simulated_roots
from attestation.snp.family import SnpFamily
from attestation.snp.report import Report
from attestation.snp.roots import RootSet
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee

INVALID_PARAMETERS = 0x16


def as_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a test runs, the simulated hierarchy stands for AMD's: nothing but a patch can bring that about."""
    roots = RootSet(simulated=False, chains=simulated_roots().chains)
    monkeypatch.setitem(FAMILIES, Tee.SEV_SNP, SnpFamily(lambda: roots))  # type: ignore[arg-type]


@dataclass
class Firmware:
    """One chip and one guest on it."""

    measurement: bytes = bytes.fromhex("5a" * 48)
    policy: int = SIMULATED_POLICY
    vmpl: int = 0
    guest_svn: int = 0
    committed: TcbVersion = SIMULATED_TCB
    version: int = 5
    chip_secret: bytes = b"this chip's"
    requests: list[str] = field(default_factory=list)

    def report(self, user_data: bytes, vmpl: int) -> tuple[int, bytes]:
        """Status and signed report."""
        self.requests.append("report")
        if not self.vmpl <= vmpl <= 3:
            return INVALID_PARAMETERS, b""
        chip = simulated_chip()
        report = chip.report(report_data=user_data, measurement=self.measurement, policy=self.policy, vmpl=vmpl)
        report = replace(report, guest_svn=self.guest_svn, committed_tcb=self.committed.encode(), **self._older(report))
        return 0, chip.sign(report).encode()

    def key(self, root: int, fields: int, vmpl: int, guest_svn: int, tcb_version: int) -> tuple[int, bytes]:
        """Status and 32 bytes."""
        self.requests.append("key")
        tcb = TcbVersion.parse(tcb_version.to_bytes(8, "little"), self.committed.product, "tcb_version")
        if root or fields >> 6 or vmpl < self.vmpl or guest_svn > self.guest_svn or self.committed.below(tcb):
            return INVALID_PARAMETERS, b""
        mixed = {
            GuestField.POLICY: self.policy.to_bytes(8, "little"),
            GuestField.IMAGE_ID: bytes(16),
            GuestField.FAMILY_ID: bytes(16),
            GuestField.MEASUREMENT: self.measurement,
            GuestField.GUEST_SVN: guest_svn.to_bytes(4, "little"),
            GuestField.TCB_VERSION: tcb_version.to_bytes(8, "little"),
        }
        context = b"".join(value for item, value in mixed.items() if item & fields)
        return 0, hmac.digest(self.chip_secret, bytes((fields, vmpl)) + context, sha512)[:32]

    def _older(self, report: Report) -> dict[str, object]:
        """What an older report version doesn't say."""
        if self.version == 5:
            return {}
        changes: dict[str, object] = {"version": self.version, "launch_mitigations": None, "current_mitigations": None}
        return changes if self.version > 2 else {**changes, "cpuid": None}
