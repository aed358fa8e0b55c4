"""What a machine offers in words, and which TEE is used under which agreement."""

import errno
import json
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
from attestation.collect.token_endpoints import TokenType
from attestation.simulated.reference_values import simulated_reference_values
from attestation.snp.report import SignedReport
from attestation.tee import Tee
from attestation.terms import Covers, Revocation
from attestation.token.confidential_space.reference_values import (
    ANY,
    GOOGLE_ROOT,
    ConfidentialSpaceReferenceValues,
    Gpu,
    HardwareModel,
    SupportAttribute,
)
from attestation.token.maa.reference_values import MaaReferenceValues, SnpHardware
from attestation.token.maa.token import AttestationType
from attestation.token.nonce import token_nonce

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
    """A launcher or a sidecar; `asked` is what it was asked last."""

    asked: object = None

    def obstacle(self) -> str | None:
        return None

    def post(self, path: str, body: bytes) -> Response:
        self.asked = json.loads(body)
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
    return Request(
        machine=found,
        folder=EndorsementFolder(None),
        snp=(),
        audience=audience,
        token_type=TokenType.PKI,
        issuer=issuer,
    )


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


SPACE = ConfidentialSpaceReferenceValues(
    tee=Tee.CONFIDENTIAL_SPACE,
    signing_keys=GOOGLE_ROOT,
    audiences=("https://strongroom.example", "another"),
    maximum_age_seconds=3600,
    hwmodels=(HardwareModel.GCP_AMD_SEV,),
    tcb_statuses=(),
    minimum_swversion=250800,
    support_attributes=(SupportAttribute.STABLE,),
    memory_monitoring=False,
    image_digests=(bytes(32),),
    image_references=ANY,
    cmd_override=(),
    env_override=(),
    project_ids=("project",),
    zones=ANY,
    service_accounts=ANY,
    gpu=Gpu.ABSENT,
    revocation=Revocation.SHORT_LIVED,
    covers=Covers.CODE,
)


@pytest.mark.parametrize(("keys", "kind"), [(GOOGLE_ROOT, "PKI"), ((bytes(range(32)),), "OIDC")])
def test_a_token_of_googles_is_for_the_agreed_audience_and_signed_as_agreed(keys: object, kind: str) -> None:
    launcher = Somebody("launcher")
    accepted = replace(SPACE, signing_keys=keys)  # type: ignore[arg-type]
    open_platform([accepted], machine=machine(launcher=launcher), endorsements=None).evidence(REPORT_DATA)
    assert launcher.asked == {
        "audience": "https://strongroom.example",
        "token_type": kind,
        "nonces": [token_nonce(REPORT_DATA)],
    }


MAA = MaaReferenceValues(
    tee=Tee.AZURE_MAA,
    signing_keys=(bytes(range(32)),),
    issuers=("https://sharedeus.eus.attest.azure.net",),
    policy_hashes=(bytes(range(32)),),
    maximum_age_seconds=3600,
    attestation_type=AttestationType.SEV_SNP_VM,
    compliance_statuses=("azure-signed-katacc-uvm",),
    hardware=SnpHardware(
        measurements=(bytes(range(48)),),
        host_data=(bytes(range(32)),),
        id_key_digests=ANY,
        author_key_digest=bytes(48),
        vmpl=0,
        smt_allowed=True,
        minimum_guest_svn=0,
        minimum_bootloader_svn=0,
        minimum_tee_svn=0,
        minimum_snpfw_svn=0,
        minimum_microcode_svn=0,
    ),
    vm_ids="none",
    revocation=Revocation.SHORT_LIVED,
    covers=Covers.CODE,
)


def test_a_token_of_microsofts_is_asked_of_the_agreed_service() -> None:
    sidecar = Somebody("sidecar")
    open_platform([MAA], machine=machine(sidecar=sidecar), endorsements=None).evidence(REPORT_DATA)
    assert sidecar.asked["maa_endpoint"] == "sharedeus.eus.attest.azure.net"


def test_the_sidecar_makes_no_tokens_for_an_azure_vm() -> None:
    machine_values = replace(
        MAA,
        attestation_type=AttestationType.AZURE_VM,
        compliance_statuses=("azure-compliant-cvm",),
        vm_ids="any",
        covers=Covers.FIRMWARE_ONLY,
    )
    with pytest.raises(NotOffered, match="to ask for a sevsnpvm token, found none"):
        open_platform([machine_values], machine=machine(sidecar=Somebody("sidecar")), endorsements=None)


def test_several_accepted_tees_are_tried_in_the_agreements_order() -> None:
    both = machine(launcher=Somebody("launcher"), sidecar=Somebody("sidecar"))
    for accepted in ([SPACE, MAA], [MAA, SPACE]):
        assert open_platform(accepted, machine=both, endorsements=None).tee is accepted[0].tee
        assert open_platform([SNP, *accepted], machine=both, endorsements=None).tee is accepted[0].tee


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
