"""A federation under SEV-SNP, both ways and over restarts: only the hardware and AMD's keys are a test's.

The kernel and the firmware are fakes that behave as documented; the platform, the sealing, the enclave, the silos and
the verifier are the real ones. AMD's roots are replaced by a patch, which no configuration can do.
"""

from dataclasses import replace

import pytest
from kernel_devices import FakeNsm, FakeSevGuest
from kernel_firmware import Firmware, as_vendor
from kernel_tsm import FakeReports, TsmKernel
from memory_federation import MEASUREMENT, MemoryFederation

from appliance.enclave.startup import StartRefusedError
from attestation.collect.choose import open_platform
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.machine import Machine, this_machine
from attestation.collect.nsm import Nsm
from attestation.collect.platform import Platform, SimulatedPlatform
from attestation.collect.quote_platforms import NitroPlatform, TdxPlatform
from attestation.families import FAMILIES
from attestation.simulated.chip import SIMULATED_TCB
from attestation.snp.roots import vendor_roots
from attestation.tee import Tee
from audit.log_files import LogFiles
from audit.report import AuditVerdict
from audit.resources import holds_log
from audit.store import MemoryStore
from audit.verify import verify
from protocol.errors import RefusalCode, RefusedError
from silo_client.enrolment import NoEvidenceError

pytestmark = pytest.mark.usefixtures("vendor")


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    as_vendor(monkeypatch)


class Machines:
    """The parties' machines: one kernel and firmware for each kind of code, kept over restarts."""

    def __init__(self) -> None:
        self.firmware: dict[bytes, Firmware] = {}
        self.devices: dict[bytes, FakeSevGuest] = {}

    def machine(self, measurement: bytes) -> Machine:
        firmware = self.firmware.setdefault(measurement, Firmware(measurement=measurement))
        device = self.devices.setdefault(measurement, FakeSevGuest(firmware))
        kernel = TsmKernel(device=device, floor=firmware.vmpl)
        return replace(this_machine(), sev_guest=device, reports=FakeReports(kernel), vmpl=lambda: firmware.vmpl)


class SnpFederation(MemoryFederation):
    """`MemoryFederation` whose agreement says `sev-snp`, on machines with a fake kernel."""

    def __init__(self, **arguments: object) -> None:
        self.machines = Machines()
        super().__init__(tee="sev-snp", platform=self.open, **arguments)  # type: ignore[arg-type]

    def open(self, measurement: bytes) -> Platform:
        machine = self.machines.machine(measurement)
        return open_platform(self.agreement.appliance, machine=machine, endorsements=None)


def short() -> dict[str, str]:
    return {"rounds = 40": "rounds = 2"}


def test_enrolment_both_ways_rounds_and_an_audit_on_real_evidence() -> None:
    federation = SnpFederation(replace=short())
    assert not federation.agreement.simulated
    federation.enrol_all()
    federation.run()
    assert all(silo.finished and not silo.errors for silo in federation.silos.values())
    assert not federation.enclave.describe().simulated
    report = verify(LogFiles(federation.store), federation.agreement)
    assert report.verdict is AuditVerdict.PASS, report
    assert "simulated" not in report.line


def test_the_state_opens_again_after_a_restart_and_the_federation_goes_on() -> None:
    federation = SnpFederation(replace=short())
    federation.enrol_all()
    federation.run(until=lambda: "round.published" in federation.kinds())
    before = federation.enclave.describe()
    after = federation.boot().describe()
    assert (after.origin, after.boot_id != before.boot_id) == (before.origin, True)
    federation.enrol_all()
    federation.run()
    assert all(silo.finished for silo in federation.silos.values())


def test_another_image_another_chip_and_another_policy_do_not_open_the_state() -> None:
    federation = SnpFederation()
    federation.enrol_all()
    with pytest.raises(StartRefusedError, match="sealed by another image, TCB, agreement or log"):
        federation.boot(measurement=bytes.fromhex("a5" * 48))
    firmware = federation.machines.firmware[MEASUREMENT]
    for change in ({"chip_secret": b"another chip's"}, {"policy": 0x20000}):
        federation.machines.firmware[MEASUREMENT] = replace(firmware, **change)  # type: ignore[arg-type]
        federation.machines.devices.clear()
        with pytest.raises(StartRefusedError, match="sealed by another image, TCB, agreement or log"):
            federation.boot()
    federation.machines.firmware[MEASUREMENT] = firmware
    federation.machines.devices.clear()
    federation.boot()


def test_firmware_below_the_agreed_minimum_gets_no_key() -> None:
    federation = SnpFederation()
    federation.machines.firmware[MEASUREMENT].committed = replace(SIMULATED_TCB, snp=22)
    with pytest.raises(StartRefusedError, match="no key to seal the state with: .* too low in snp"):
        federation.boot()


def test_evidence_that_the_agreement_does_not_accept_begins_no_log() -> None:
    """A genesis that no silo and no auditor can believe would be the only one that they cosign."""
    federation = SnpFederation()
    federation.machines.devices[MEASUREMENT].table = b""
    store = MemoryStore()
    with pytest.raises(StartRefusedError, match="endorsements: expected a VCEK or VLEK certificate, found none"):
        federation.boot(store=store)
    assert not holds_log(store)


def test_a_simulated_report_is_refused_under_an_agreement_for_the_real_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    federation = SnpFederation()
    silo = federation.silo("silo-0")
    monkeypatch.setitem(FAMILIES, Tee.SEV_SNP, type(FAMILIES[Tee.SEV_SNP])(vendor_roots))  # type: ignore[arg-type,call-arg]
    with pytest.raises(RefusedError) as refused:
        silo.machine.welcome(federation.enclave.hello(silo.machine.hello()))
    assert refused.value.refusal.code is RefusalCode.EVIDENCE_NOT_AUTHENTIC


def test_a_silo_of_another_measurement_is_refused_and_logged() -> None:
    federation = SnpFederation()
    silo = federation.silo("silo-1")
    party = silo.machine._party
    silo.machine._party = replace(party, platform=federation.open(bytes.fromhex("a5" * 48)))
    with pytest.raises(RefusedError) as refused:
        federation.enrol(silo)
    assert (refused.value.refusal.code, "measurement" in str(refused.value)) == (RefusalCode.EVIDENCE_REFUSED, True)
    assert federation.kinds()[-1] == "silo.refused"


def test_a_silo_whose_tee_fails_says_why() -> None:
    federation = SnpFederation()
    silo = federation.silo("silo-0")
    welcome = federation.enclave.hello(silo.machine.hello())
    federation.machines.devices[MEASUREMENT].vmpck = False
    with pytest.raises(NoEvidenceError, match=r"this machine's TEE makes no evidence: .*\(VMPCK\)"):
        silo.machine.welcome(welcome)


def test_an_appliance_whose_tee_fails_is_busy_and_tells_its_operator() -> None:
    federation = SnpFederation()
    silo = federation.silo("silo-0")
    federation.machines.devices[MEASUREMENT].vmpck = False
    with pytest.raises(RefusedError) as refused:
        federation.enclave.hello(silo.machine.hello())
    assert refused.value.refusal.code is RefusalCode.BUSY
    assert "VMPCK" not in str(refused.value)
    assert any(event.startswith("evidence-failed") and "VMPCK" in event for event in federation.events)
    with pytest.raises(StartRefusedError, match=r"no key to seal the state with: .*VMPCK"):
        federation.boot()


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        (
            NitroPlatform(module=Nsm(FakeNsm()), endorsements=EndorsementFolder(None)),
            "Nitro: an enclave gets no sealing key",
        ),
        (
            TdxPlatform(interface=FakeReports(TsmKernel(provider="tdx_guest")), endorsements=EndorsementFolder(None)),
            "TDX: Linux gives a trust domain no sealing key",
        ),
    ],
)
def test_an_appliance_without_a_sealing_key_does_not_go_on_with_a_log_and_says_why(
    platform: Platform, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = SnpFederation()
    monkeypatch.setattr(type(platform), "tee", Tee.SEV_SNP)
    federation.platform = lambda measurement: platform
    with pytest.raises(StartRefusedError, match=f"{words}.*the store's log can't be gone on with"):
        federation.boot()


def test_a_machine_of_another_tee_than_the_agreed_one_does_not_start() -> None:
    federation = SnpFederation()
    federation.platform = SimulatedPlatform
    with pytest.raises(StartRefusedError, match="TEE: expected one of sev-snp, as the agreement says, found simulated"):
        federation.boot()
