"""What a machine offers in words, and which TEE is used under which agreement."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from kernel_devices import FakeNsm, FakeSevGuest
from kernel_firmware import Firmware
from kernel_tsm import FakeReports, TsmKernel

from attestation.collect.choose import Request, open_platform, open_tee
from attestation.collect.detect import survey
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectionFailed, NoSealingKey, NotOffered
from attestation.collect.http import Response
from attestation.collect.machine import Machine, read_vmpl, this_machine
from attestation.simulated.reference_values import simulated_reference_values
from attestation.snp.report import SignedReport
from attestation.tee import Tee

REPORT_DATA = bytes(range(64))
SIMULATED = simulated_reference_values(bytes.fromhex("5a" * 48))
SNP = replace(SIMULATED, tee=Tee.SEV_SNP)
TOKEN = b"eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"


class Nobody:
    """A service that isn't there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def obstacle(self) -> str | None:
        return "no such socket"

    def post(self, path: str, body: bytes) -> Response:
        raise CollectionFailed("nobody")


class Somebody(Nobody):
    """A launcher or a sidecar."""

    def obstacle(self) -> str | None:
        return None

    def post(self, path: str, body: bytes) -> Response:
        token = TOKEN if path == "/v1/token" else b'{"token": "' + TOKEN + b'"}'
        return Response(status=200, body=token)


def machine(**parts: object) -> Machine:
    """A machine with nothing but what is given."""
    nothing: dict[str, object] = {
        "reports": FakeReports(TsmKernel(provider=None), absent="no such folder"),
        "sev_guest": FakeSevGuest(absent="no such device"),
        "vmpl": lambda: 0,
        "nsm": FakeNsm(absent="no such device"),
        "launcher": Nobody("/run/container_launcher/teeserver.sock"),
        "sidecar": Nobody("127.0.0.1:8080"),
    }
    return Machine(**{**nothing, **parts})  # type: ignore[arg-type]


def snp_machine(firmware: Firmware | None = None) -> Machine:
    device = FakeSevGuest(firmware or Firmware())
    kernel = TsmKernel(device=device, floor=device.firmware.vmpl)
    return machine(sev_guest=device, reports=FakeReports(kernel), vmpl=lambda: device.firmware.vmpl)


def offered(found: Machine) -> dict[str, tuple[Tee | None, str]]:
    return {offer.interface: (offer.tee, offer.words) for offer in survey(found)}


def test_a_machine_without_a_tee_says_why_not_for_each_interface() -> None:
    assert offered(machine()) == {
        "/sys/kernel/config/tsm/report": (None, "no such folder"),
        "/dev/sev-guest": (None, "no such device"),
        "/dev/nsm": (None, "no such device"),
        "/run/container_launcher/teeserver.sock": (None, "no such socket"),
        "127.0.0.1:8080": (None, "no such socket"),
    }


def test_this_machine_is_looked_at_without_an_error() -> None:
    assert len(survey(this_machine())) == 5


def test_an_snp_guest_offers_both_its_interfaces() -> None:
    found = offered(snp_machine())
    assert found["/sys/kernel/config/tsm/report"] == (Tee.SEV_SNP, "reports by sev_guest")
    assert found["/dev/sev-guest"] == (Tee.SEV_SNP, "reports, the host's certificates and a sealing key")


@pytest.mark.parametrize(
    ("found", "interface", "tee", "words"),
    [
        (machine(reports=FakeReports(TsmKernel(provider=None))), "/sys/kernel/config/tsm/report", None, "ENXIO"),
        (
            machine(reports=FakeReports(TsmKernel(provider="tdx_guest"))),
            "/sys/kernel/config/tsm/report",
            Tee.TDX,
            "reports by tdx_guest",
        ),
        (
            machine(reports=FakeReports(TsmKernel(provider="arm_cca_guest"))),
            "/sys/kernel/config/tsm/report",
            None,
            "reports by arm_cca_guest, which this version can't read",
        ),
        (machine(nsm=FakeNsm(module_id="i-1-enc2")), "/dev/nsm", Tee.NITRO, "documents by i-1-enc2"),
        (machine(nsm=FakeNsm(number=errno.EIO)), "/dev/nsm", None, "EIO (Input/output error)"),
        (
            machine(launcher=Somebody("/run/container_launcher/teeserver.sock")),
            "/run/container_launcher/teeserver.sock",
            Tee.CONFIDENTIAL_SPACE,
            "tokens, if",
        ),
        (machine(sidecar=Somebody("127.0.0.1:8080")), "127.0.0.1:8080", Tee.AZURE_MAA, "tokens, if"),
    ],
)
def test_each_interface_says_what_it_is_good_for(found: Machine, interface: str, tee: Tee | None, words: str) -> None:
    assert offered(found)[interface][0] is tee
    assert words in offered(found)[interface][1]


def test_looking_asks_for_no_report() -> None:
    firmware = Firmware()
    survey(snp_machine(firmware))
    assert firmware.requests == []


def test_the_agreement_names_the_tee_and_the_machine_offers_it() -> None:
    platform = open_platform([SNP], machine=snp_machine(), endorsements=None)
    assert platform.tee is Tee.SEV_SNP
    assert len(platform.sealing_key()) == 32


def test_an_agreement_for_simulation_asks_no_hardware() -> None:
    firmware = Firmware()
    assert open_platform([SIMULATED], machine=snp_machine(firmware), endorsements=None).tee is Tee.SIMULATED
    assert firmware.requests == []


def test_a_machine_without_the_agreed_tee_says_so_for_each_of_its_interfaces() -> None:
    with pytest.raises(NotOffered) as caught:
        open_platform([SNP], machine=machine(), endorsements=None)
    assert str(caught.value) == (
        "TEE: expected one that the agreement accepts, found none on this machine (sev-snp: /dev/sev-guest: no such "
        "device; /sys/kernel/config/tsm/report: no such folder)"
    )


def test_a_tdx_machine_is_no_snp_machine() -> None:
    with pytest.raises(NotOffered, match="sev-snp: .*reports by tdx_guest"):
        open_platform([SNP], machine=machine(reports=FakeReports(TsmKernel(provider="tdx_guest"))), endorsements=None)


def test_where_configfs_is_closed_to_us_the_device_makes_reports_at_its_own_level() -> None:
    device = FakeSevGuest(Firmware(vmpl=2))
    found = machine(sev_guest=device, vmpl=lambda: 2)
    evidence = open_platform([SNP], machine=found, endorsements=None).evidence(REPORT_DATA)
    assert SignedReport.parse(evidence.report).report.vmpl == 2


def test_where_the_device_is_closed_to_us_there_is_evidence_and_no_sealing_key() -> None:
    found = machine(reports=FakeReports(TsmKernel()))
    platform = open_platform([SNP], machine=found, endorsements=None)
    assert platform.evidence(REPORT_DATA).tee is Tee.SEV_SNP
    with pytest.raises(NoSealingKey):
        platform.sealing_key()


def test_a_folder_that_cant_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CollectionFailed, match="expected a folder of endorsements"):
        open_platform([SNP], machine=snp_machine(), endorsements=tmp_path / "none")


def request(
    found: Machine, audience: str | None = "me", issuer: str | None = "https://a.b.attest.azure.net"
) -> Request:
    return Request(machine=found, folder=EndorsementFolder(None), snp=(), audience=audience, issuer=issuer)


@pytest.mark.parametrize(
    ("tee", "found"),
    [
        (Tee.TDX, machine(reports=FakeReports(TsmKernel(provider="tdx_guest", quote=b"quote")))),
        (Tee.NITRO, machine(nsm=FakeNsm())),
        (Tee.CONFIDENTIAL_SPACE, machine(launcher=Somebody("launcher"))),
        (Tee.AZURE_MAA, machine(sidecar=Somebody("sidecar"))),
    ],
)
def test_every_other_tee_is_opened_where_it_is_and_says_where_it_is_not(tee: Tee, found: Machine) -> None:
    platform = open_tee(tee, request(found))
    assert (platform.tee, platform.evidence(REPORT_DATA).tee) == (tee, tee)
    with pytest.raises(NoSealingKey):
        platform.sealing_key()
    with pytest.raises(NotOffered, match="no such|ENXIO"):
        open_tee(tee, request(machine()))


@pytest.mark.parametrize(
    ("tee", "part", "words"),
    [
        (Tee.CONFIDENTIAL_SPACE, request(machine(launcher=Somebody("l")), audience=None), "expected an audience"),
        (Tee.AZURE_MAA, request(machine(sidecar=Somebody("s")), issuer=None), "expected an attestation service"),
        (Tee.AZURE_MAA, request(machine(sidecar=Somebody("s")), issuer="http://a"), "issuer: expected https"),
        (Tee.SGX, request(machine()), "don't run in an SGX enclave"),
    ],
)
def test_what_a_tee_can_not_do_without_is_said(tee: Tee, part: Request, words: str) -> None:
    with pytest.raises(NotOffered, match=words):
        open_tee(tee, part)


@pytest.mark.parametrize(
    ("text", "expected"), [(None, 0), ("0\n", 0), ("3\n", 3), ("4\n", "0 to 3"), ("", "0 to 3"), ("-1", "0 to 3")]
)
def test_the_kernels_privilege_level(tmp_path: Path, text: str | None, expected: int | str) -> None:
    file = tmp_path / "vmpl"
    if text is not None:
        file.write_text(text)
    if isinstance(expected, int):
        assert read_vmpl(file) == expected
    else:
        with pytest.raises(CollectionFailed, match=expected):
            read_vmpl(file)


@pytest.mark.parametrize("tee", [tee for tee in Tee if tee not in (Tee.NONE, Tee.SIMULATED)])
def test_no_tee_of_an_agreement_is_unknown_here(tee: Tee) -> None:
    with pytest.raises(NotOffered):
        open_tee(tee, request(machine()))
