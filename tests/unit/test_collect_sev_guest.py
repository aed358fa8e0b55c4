"""`/dev/sev-guest` over a driver that behaves as documented: reports, the host's certificates, keys, failures."""

import errno

import pytest
from kernel_devices import ARK, VCEK, FakeSevGuest, certificate_table
from kernel_firmware import Firmware

from attestation.collect import sev_guest
from attestation.collect.errors import CollectionFailed
from attestation.collect.kernel import DeviceFile, KernelBuffer
from attestation.collect.sev_guest import GET_DERIVED_KEY, GET_EXT_REPORT, GET_REPORT, GuestField, SevGuest
from attestation.simulated.chip import SIMULATED_TCB, simulated_chip
from attestation.snp.cert_table import CertTable
from attestation.snp.report import SignedReport

REPORT_DATA = bytes(range(64))
EVERYTHING = GuestField(0x3F)
TCB = int.from_bytes(SIMULATED_TCB.encode(), "little")


def test_a_report_commits_to_the_data_and_comes_with_the_hosts_certificate() -> None:
    found = SevGuest(FakeSevGuest(), vmpl=0).report(REPORT_DATA)
    assert SignedReport.parse(found.report).report.report_data == REPORT_DATA
    assert CertTable.parse(found.certificate_table).endorsements() == (simulated_chip().endorsement,)


def test_the_privilege_level_asked_for_is_in_the_report() -> None:
    found = SevGuest(FakeSevGuest(Firmware(vmpl=1)), vmpl=2).report(REPORT_DATA)
    assert SignedReport.parse(found.report).report.vmpl == 2


def test_no_host_certificates_is_no_failure() -> None:
    found = SevGuest(FakeSevGuest(table=b""), vmpl=0).report(REPORT_DATA)
    assert not any(found.certificate_table)


@pytest.mark.parametrize("size", [16 * 1024 + 1, 64 * 1024])
def test_a_table_that_no_kernel_passes_on_costs_the_certificates_and_not_the_report(size: int) -> None:
    """The host names a size; a request for that size the kernel refuses before it reaches the firmware."""
    device = FakeSevGuest(table=bytes(size))
    found = SevGuest(device, vmpl=0).report(REPORT_DATA)
    assert device.calls == [GET_EXT_REPORT, GET_EXT_REPORT, GET_REPORT]
    assert SignedReport.parse(found.report).report.report_data == REPORT_DATA
    assert found.certificate_table == b""


def test_a_host_that_wants_more_room_gets_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sev_guest, "CERTIFICATE_TABLE_BYTES", 4096)
    device = FakeSevGuest(table=certificate_table((VCEK, simulated_chip().endorsement), (ARK, bytes(5000))))
    found = SevGuest(device, vmpl=0).report(REPORT_DATA)
    assert device.calls == [GET_EXT_REPORT, GET_EXT_REPORT]
    assert len(found.certificate_table) == 8192
    assert CertTable.parse(found.certificate_table).endorsements() == (simulated_chip().endorsement,)


def test_a_host_that_always_wants_more_gets_no_third_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sev_guest, "CERTIFICATE_TABLE_BYTES", 4096)

    class Growing(FakeSevGuest):
        def ioctl(self, request: int, argument: bytearray) -> None:
            self.table += bytes(4096)
            super().ioctl(request, argument)

    device = Growing()
    found = SevGuest(device, vmpl=0).report(REPORT_DATA)
    assert device.calls == [GET_EXT_REPORT, GET_EXT_REPORT, GET_REPORT]
    assert SignedReport.parse(found.report).report.report_data == REPORT_DATA
    assert found.certificate_table == b""


def test_a_derived_key_is_the_same_again_and_another_for_anything_mixed_in() -> None:
    def key(firmware: Firmware, fields: GuestField = EVERYTHING, svn: int = 0, tcb: int = TCB) -> bytes:
        device = SevGuest(FakeSevGuest(firmware), vmpl=firmware.vmpl)
        return device.derived_key(fields=fields, guest_svn=svn, tcb_version=tcb)

    good = key(Firmware())
    assert (len(good), key(Firmware())) == (32, good)
    others = [
        key(Firmware(measurement=bytes(48))),
        key(Firmware(policy=0x20000)),
        key(Firmware(guest_svn=1), svn=1),
        key(Firmware(), tcb=0),
        key(Firmware(chip_secret=b"another")),
        key(Firmware(vmpl=1)),
        key(Firmware(), fields=GuestField(0x1F)),
    ]
    assert len({good, *others}) == len(others) + 1
    assert key(Firmware(measurement=bytes(48)), fields=GuestField.POLICY) == key(Firmware(), fields=GuestField.POLICY)


def test_the_firmwares_key_is_not_handed_on_and_zeroed_in_every_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[KernelBuffer] = []
    held: list[bytes] = []

    class Watched(KernelBuffer):
        def __init__(self, content: bytes, size: int) -> None:
            super().__init__(content, size)
            buffers.append(self)

        def view(self, start: int, stop: int) -> memoryview:
            held.append(bytes(super().view(start, stop)))
            return super().view(start, stop)

    monkeypatch.setattr(sev_guest, "KernelBuffer", Watched)
    firmware = Firmware()
    found = SevGuest(FakeSevGuest(firmware), vmpl=0).derived_key(
        fields=GuestField.MEASUREMENT, guest_svn=0, tcb_version=0
    )
    raw = firmware.key(0, GuestField.MEASUREMENT, 0, 0, 0)[1]
    assert raw in held
    assert found != raw
    assert [buffer.read(0, buffer.size) for buffer in buffers] == [bytes(32), bytes(64)]


@pytest.mark.parametrize(("svn", "tcb"), [(1, 0), (0, TCB + 1)])
def test_what_the_firmware_refuses_is_said_and_costs_no_key(svn: int, tcb: int) -> None:
    device = FakeSevGuest()
    with pytest.raises(CollectionFailed, match=r"status 0x16 \(invalid parameters\)"):
        SevGuest(device, vmpl=0).derived_key(fields=EVERYTHING, guest_svn=svn, tcb_version=tcb)
    assert device.vmpck


def test_a_level_below_the_guests_own_is_refused_in_words() -> None:
    with pytest.raises(CollectionFailed, match=r"/dev/sev-guest: the firmware refused: status 0x16"):
        SevGuest(FakeSevGuest(Firmware(vmpl=2)), vmpl=0).report(REPORT_DATA)


@pytest.mark.parametrize("number", [GET_REPORT, GET_DERIVED_KEY])
def test_after_an_error_of_the_firmware_nothing_is_retried_and_the_next_request_says_why(number: int) -> None:
    device = FakeSevGuest(host=lambda call: (0, 0x1B) if call == 1 else (0, 0))
    guest = SevGuest(device, vmpl=0)

    def ask() -> None:
        if number == GET_REPORT:
            guest.report(REPORT_DATA)
        else:
            guest.derived_key(fields=GuestField.POLICY, guest_svn=0, tcb_version=0)

    with pytest.raises(CollectionFailed, match=r"firmware error 0x1b, host error 0x0.*until the guest restarts"):
        ask()
    assert len(device.calls) == 1
    with pytest.raises(CollectionFailed, match=r"threw away this guest's key to the firmware \(VMPCK\)"):
        ask()
    assert len(device.calls) == 2


def test_a_busy_host_is_waited_for_in_the_kernel_and_not_by_us() -> None:
    device = FakeSevGuest(host=lambda call: (2, 0))
    with pytest.raises(CollectionFailed, match="the host kept the firmware busy for 60 s"):
        SevGuest(device, vmpl=0).report(REPORT_DATA)
    assert len(device.calls) == 1


def test_other_errors_keep_their_names() -> None:
    class NoMemory(FakeSevGuest):
        def ioctl(self, request: int, argument: bytearray) -> None:
            raise OSError(errno.ENOMEM, "")

    with pytest.raises(CollectionFailed, match=r"ENOMEM \(Cannot allocate memory\)"):
        SevGuest(NoMemory(), vmpl=0).report(REPORT_DATA)


@pytest.mark.parametrize("wrong", [b"", bytes(63), bytes(65)])
def test_report_data_has_its_size(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="report_data"):
        SevGuest(FakeSevGuest(), vmpl=0).report(wrong)


def test_a_real_device_says_why_it_cant_be_used(tmp_path: object) -> None:
    from pathlib import Path

    assert DeviceFile(Path(str(tmp_path)) / "none").obstacle() == "no such device"
    assert DeviceFile(Path("/dev/null")).obstacle() is None
    with pytest.raises(OSError, match="ioctl"):
        DeviceFile(Path("/dev/null")).ioctl(GET_REPORT, bytearray(32))
