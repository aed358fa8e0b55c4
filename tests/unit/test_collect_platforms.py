"""SEV-SNP and TDX as platforms: evidence that appraises, the right certificate of many, a sealing key or a reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from kernel_devices import CRL, FakeSevGuest, certificate_table
from kernel_devices import VCEK as VCEK_GUID
from kernel_firmware import Firmware, as_vendor
from kernel_tsm import FakeReports, TsmKernel

from attestation import EvidenceUncheckable, appraise
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectionFailed, NoSealingKey
from attestation.collect.platform import Platform
from attestation.collect.quote_platforms import TdxPlatform
from attestation.collect.sev_guest import SevGuest
from attestation.collect.snp_platform import SEALED_TO, SnpPlatform, through_configfs
from attestation.reference_values import SnpReferenceValues
from attestation.simulated.authority import Authority, issue_endorsement
from attestation.simulated.chip import SIMULATED_CHIP_ID, SIMULATED_TCB, simulated_chip
from attestation.simulated.reference_values import simulated_reference_values
from attestation.simulated.roots import simulated_roots
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from attestation.terms import Revocation

REPORT_DATA = bytes(range(64))
NOW = datetime(2026, 11, 24, tzinfo=UTC)
VCEK = simulated_chip().endorsement
MEASUREMENT = Firmware().measurement
ACCEPTED = replace(simulated_reference_values(MEASUREMENT), tee=Tee.SEV_SNP)
NEWER = replace(SIMULATED_TCB, snp=SIMULATED_TCB.snp + 1)
OLDER = replace(SIMULATED_TCB, snp=SIMULATED_TCB.snp - 1)


@cache
def another_vcek() -> bytes:
    """A good certificate of the same chain, for another key: what an update of the firmware leaves behind."""
    hierarchy = files("attestation.simulated").joinpath("hierarchy")
    key = load_pem_private_key(hierarchy.joinpath("ask_key.pem").read_bytes(), password=None)
    authority = Authority(certificate=simulated_roots().chains[0].intermediate, key=key)  # type: ignore[arg-type]
    certificate = issue_endorsement(
        SigningKey.VCEK,
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        authority,
        tcb=OLDER,
        identity=SIMULATED_CHIP_ID,
        not_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_after=datetime(2999, 1, 1, tzinfo=UTC),
    )
    return certificate.public_bytes(Encoding.DER)


@cache
def revocation_list(number: int) -> bytes:
    """An empty list of the test root."""
    hierarchy = files("attestation.simulated").joinpath("hierarchy")
    key = load_pem_private_key(hierarchy.joinpath("ark_key.pem").read_bytes(), password=None)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(simulated_roots().chains[0].ark.subject)
        .last_update(datetime(2026, 1, 1, tzinfo=UTC))
        .next_update(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    return builder.sign(key, SHA384()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def through_device(
    firmware: Firmware,
    *,
    table: bytes | None = None,
    folder: Path | None = None,
    accepted: SnpReferenceValues = ACCEPTED,
) -> SnpPlatform:
    device = FakeSevGuest(firmware)
    if table is not None:
        device.table = table
    guest = SevGuest(device, vmpl=firmware.vmpl)
    return SnpPlatform(reports=guest.report, device=guest, endorsements=EndorsementFolder(folder), accepted=(accepted,))


def through_both(firmware: Firmware) -> SnpPlatform:
    device = FakeSevGuest(firmware)
    kernel = TsmKernel(device=device, floor=firmware.vmpl)
    return SnpPlatform(
        reports=through_configfs(FakeReports(kernel)),
        device=SevGuest(device, vmpl=firmware.vmpl),
        endorsements=EndorsementFolder(None),
        accepted=(ACCEPTED,),
    )


@pytest.mark.parametrize("make", [through_device, through_both])
def test_its_evidence_is_accepted(make: Callable[[Firmware], SnpPlatform], monkeypatch: pytest.MonkeyPatch) -> None:
    as_vendor(monkeypatch)
    platform = make(Firmware())
    evidence = platform.evidence(REPORT_DATA)
    assert (platform.tee, evidence.tee, evidence.endorsements) == (Tee.SEV_SNP, Tee.SEV_SNP, (VCEK,))
    verdict = appraise(evidence, [ACCEPTED], REPORT_DATA, NOW)
    assert (verdict.tee, verdict.measurement, verdict.simulated) == (Tee.SEV_SNP, MEASUREMENT, False)


def test_a_machine_of_the_simulated_hierarchy_is_not_amds() -> None:
    """Without the test's patch: nothing that a configuration says makes these reports real."""
    from attestation import EvidenceNotAuthentic

    with pytest.raises(EvidenceNotAuthentic):
        appraise(through_device(Firmware()).evidence(REPORT_DATA), [ACCEPTED], REPORT_DATA, NOW)


def test_without_the_certificate_the_other_side_can_not_check(monkeypatch: pytest.MonkeyPatch) -> None:
    as_vendor(monkeypatch)
    evidence = through_device(Firmware(), table=b"").evidence(REPORT_DATA)
    assert evidence.endorsements == ()
    with pytest.raises(EvidenceUncheckable, match="VCEK or VLEK certificate, found none"):
        appraise(evidence, [ACCEPTED], REPORT_DATA, NOW)


def test_the_certificate_may_come_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_vendor(monkeypatch)
    (tmp_path / "vcek.der").write_bytes(VCEK)
    evidence = through_device(Firmware(), table=b"", folder=tmp_path).evidence(REPORT_DATA)
    appraise(evidence, [ACCEPTED], REPORT_DATA, NOW)


@pytest.mark.parametrize("stale_in_folder", [True, False])
def test_of_several_certificates_the_one_whose_key_signed_goes_along(tmp_path: Path, stale_in_folder: bool) -> None:
    """The firmware was updated: the host's table or the operator's folder still has the old key's certificate."""
    stale, other = another_vcek(), b'{"keys": []}'
    in_folder, in_table = (stale, VCEK) if stale_in_folder else (VCEK, stale)
    (tmp_path / "a.der").write_bytes(in_folder)
    (tmp_path / "b.json").write_bytes(other)
    table = certificate_table((VCEK_GUID, in_table))
    evidence = through_device(Firmware(), table=table, folder=tmp_path).evidence(REPORT_DATA)
    assert evidence.endorsements == (VCEK, other)


def test_a_certificate_of_another_key_alone_is_not_sent_as_if_it_were_the_signers(tmp_path: Path) -> None:
    (tmp_path / "a.der").write_bytes(another_vcek())
    assert through_device(Firmware(), table=b"", folder=tmp_path).evidence(REPORT_DATA).endorsements == ()


@pytest.mark.parametrize(
    ("revocation", "own", "sent"),
    [
        (Revocation.CRL, None, "host's"),
        (Revocation.CRL, "own", "own"),
        (Revocation.MINIMUM_TCB, None, None),
        (Revocation.MINIMUM_TCB, "own", "own"),
    ],
)
def test_a_hosts_revocation_list_goes_along_where_it_is_asked_for_and_the_folder_has_none(
    tmp_path: Path, revocation: Revocation, own: str | None, sent: str | None
) -> None:
    lists = {"host's": revocation_list(1), "own": revocation_list(2), None: None}
    if own is not None:
        (tmp_path / "list.crl").write_bytes(lists[own])
    table = certificate_table((VCEK_GUID, VCEK), (CRL, lists["host's"]))
    accepted = replace(ACCEPTED, revocation=revocation)
    evidence = through_device(Firmware(), table=table, folder=tmp_path, accepted=accepted).evidence(REPORT_DATA)
    assert evidence.endorsements == ((VCEK,) if sent is None else (VCEK, lists[sent]))


@pytest.mark.parametrize("table", [b"", bytes(4096), b"\xff" * 4096, certificate_table((VCEK_GUID, b"nonsense"))])
def test_a_table_of_nothing_or_nonsense_is_as_good_as_none(table: bytes) -> None:
    assert through_device(Firmware(), table=table).evidence(REPORT_DATA).endorsements == ()


def test_the_sealing_key_is_the_same_after_a_restart_and_after_a_firmware_update() -> None:
    key = through_device(Firmware()).sealing_key()
    assert len(key) == 32
    assert through_device(Firmware()).sealing_key() == key
    assert through_both(Firmware()).sealing_key() == key
    assert through_device(Firmware(committed=NEWER)).sealing_key() == key


@pytest.mark.parametrize(
    "firmware",
    [
        Firmware(measurement=bytes(48)),
        Firmware(policy=0x20000),
        Firmware(guest_svn=1),
        Firmware(chip_secret=b"another chip's"),
        Firmware(vmpl=1),
    ],
)
def test_the_sealing_key_is_another_for_another_guest_or_chip(firmware: Firmware) -> None:
    assert through_device(firmware).sealing_key() != through_device(Firmware()).sealing_key()


def test_the_sealing_key_is_that_of_the_agreed_minimum() -> None:
    lower = replace(ACCEPTED, minimum_tcb=(OLDER,))
    assert through_device(Firmware(), accepted=lower).sealing_key() != through_device(Firmware()).sealing_key()
    both = SnpPlatform(
        reports=SevGuest(FakeSevGuest(), 0).report,
        device=SevGuest(FakeSevGuest(), 0),
        endorsements=EndorsementFolder(None),
        accepted=(ACCEPTED, lower),
    )
    assert both.sealing_key() == through_device(Firmware(), accepted=lower).sealing_key()


def test_firmware_below_the_agreed_minimum_is_said_before_it_is_asked() -> None:
    firmware = Firmware(committed=OLDER)
    with pytest.raises(CollectionFailed, match="minimum_tcb: expected firmware of at least .* too low in snp"):
        through_device(firmware).sealing_key()
    assert "key" not in firmware.requests


def test_a_rolled_back_firmware_does_not_give_the_key_to_whoever_skips_that_check() -> None:
    """The firmware itself refuses: TCB_VERSION is mixed in, and may not exceed what is committed."""
    minimum = int.from_bytes(SIMULATED_TCB.encode(), "little")
    with pytest.raises(CollectionFailed, match="invalid parameters"):
        SevGuest(FakeSevGuest(Firmware(committed=OLDER)), 0).derived_key(
            fields=SEALED_TO, guest_svn=0, tcb_version=minimum
        )


def test_a_product_that_the_agreement_does_not_accept_is_said() -> None:
    milan = TcbVersion(product=Product.MILAN, bootloader=4, tee=0, snp=24, microcode=0xDB)
    accepted = replace(ACCEPTED, products=(Product.MILAN,), minimum_tcb=(milan,))
    with pytest.raises(CollectionFailed, match="products: expected Milan, as the agreement says, found Genoa"):
        through_device(Firmware(), accepted=accepted).sealing_key()


def test_an_old_report_names_no_product_and_its_keys_certificate_does() -> None:
    assert through_device(Firmware(version=2)).sealing_key() == through_device(Firmware()).sealing_key()
    with pytest.raises(CollectionFailed, match="put the VCEK certificate into the folder"):
        through_device(Firmware(version=2), table=b"").sealing_key()


def test_without_the_device_there_is_evidence_and_no_sealing_key() -> None:
    platform = SnpPlatform(
        reports=through_configfs(FakeReports(TsmKernel())),
        device=None,
        endorsements=EndorsementFolder(None),
        accepted=(ACCEPTED,),
    )
    assert platform.evidence(REPORT_DATA).endorsements == (VCEK,)
    with pytest.raises(NoSealingKey, match="needs /dev/sev-guest"):
        platform.sealing_key()


def test_a_report_that_is_none_is_said() -> None:
    kernel = TsmKernel(provider="sev_guest")
    kernel.new_report = lambda inblob, privlevel: (b"no report", b"")  # type: ignore[method-assign]
    reports = through_configfs(FakeReports(kernel))
    platform = SnpPlatform(reports=reports, device=None, endorsements=EndorsementFolder(None), accepted=(ACCEPTED,))
    with pytest.raises(CollectionFailed, match="expected a report, found a malformed one"):
        platform.evidence(REPORT_DATA)


def test_reports_of_another_provider_are_no_snp_reports() -> None:
    reports = through_configfs(FakeReports(TsmKernel(provider="tdx_guest")))
    with pytest.raises(CollectionFailed, match="provider: expected sev_guest, found tdx_guest"):
        reports(REPORT_DATA)


def tdx(kernel: TsmKernel, folder: Path | None = None) -> Platform:
    return TdxPlatform(interface=FakeReports(kernel), endorsements=EndorsementFolder(folder))


def test_a_quote_goes_out_as_it_came_with_the_collateral(tmp_path: Path) -> None:
    (tmp_path / "tcb-info.json").write_bytes(b'{"tcbInfo": 1}')
    (tmp_path / "root.crl").write_bytes(b"0\x82crl")
    evidence = tdx(TsmKernel(provider="tdx_guest", quote=b"quote"), tmp_path).evidence(REPORT_DATA)
    assert (evidence.tee, evidence.report) == (Tee.TDX, b"quote" + REPORT_DATA)
    assert evidence.endorsements == (b"0\x82crl", b'{"tcbInfo": 1}')


def test_a_quote_in_the_form_that_nothing_here_reads_is_said() -> None:
    with pytest.raises(CollectionFailed, match="DICE form"):
        tdx(TsmKernel(provider="tdx_guest", quote=bytes(8192))).evidence(REPORT_DATA)


def test_tdx_on_another_machine_is_said() -> None:
    with pytest.raises(CollectionFailed, match="provider: expected tdx_guest, found sev_guest"):
        tdx(TsmKernel()).evidence(REPORT_DATA)


def test_tdx_has_no_sealing_key() -> None:
    with pytest.raises(NoSealingKey, match="Linux gives a trust domain no sealing key"):
        tdx(TsmKernel(provider="tdx_guest")).sealing_key()
