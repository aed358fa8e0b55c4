"""`strongroom attest collect`, on a machine without a TEE and on one whose kernel is a fake."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from kernel_devices import FakeNsm, FakeSevGuest
from kernel_firmware import Firmware, as_vendor
from kernel_tsm import FakeReports, TsmKernel

from attestation import Evidence, appraise
from attestation.collect.machine import Machine, this_machine
from attestation.simulated.chip import simulated_chip
from attestation.simulated.reference_values import simulated_reference_values
from attestation.tee import Tee
from strongroom import cli
from strongroom.commands.attest import collect

REPORT_DATA = bytes(range(64))


def on(machine: Machine, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(collect, "this_machine", lambda: machine)
    result = CliRunner().invoke(cli.cli, ["attest", "collect", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def snp() -> Machine:
    device = FakeSevGuest()
    return replace(this_machine(), sev_guest=device, reports=FakeReports(TsmKernel(device=device)))


def test_a_machine_without_a_tee_says_why_not_one_line_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = on(this_machine(), monkeypatch)
    assert code == 1
    lines = output.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["/sys/kernel/config/tsm/report", "nothing"],
        ["/dev/sev-guest", "nothing"],
        ["/dev/nsm", "nothing"],
        ["/run/container_launcher/teeserver.sock", "nothing"],
        ["127.0.0.1:8080", "nothing"],
    ]
    assert lines[1].endswith("no such device")
    assert lines[-1] == "This machine offers no evidence."


def test_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = on(this_machine(), monkeypatch, "--json")
    found = json.loads(output)
    assert (code, found["tee"], found["evidence"]) == (1, None, None)
    assert [interface["tee"] for interface in found["interfaces"]] == [None] * 5


def test_collected_evidence_is_what_another_machine_accepts(
    snp: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_vendor(monkeypatch)
    out = tmp_path / "evidence.json"
    code, output = on(snp, monkeypatch, "--report-data", REPORT_DATA.hex(), "--out", str(out))
    assert code == 0, output
    assert "/dev/sev-guest                          sev-snp" in output
    assert "collected sev-snp evidence of 1184 bytes with 1 endorsements; not judged" in output
    evidence = Evidence.parse(out.read_bytes().strip())
    accepted = replace(simulated_reference_values(Firmware().measurement), tee=Tee.SEV_SNP)
    appraise(evidence, [accepted], REPORT_DATA, datetime(2026, 11, 24, tzinfo=UTC))
    inspected = CliRunner().invoke(cli.cli, ["attest", "inspect", str(out)])
    assert (inspected.exit_code, REPORT_DATA.hex() in "".join(inspected.output.split())) == (0, True)


def test_collected_evidence_as_json(snp: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = on(snp, monkeypatch, "--json", "--report-data", REPORT_DATA.hex())
    found = json.loads(output)
    assert (code, found["tee"], found["report_data"]) == (0, "sev-snp", REPORT_DATA.hex())
    assert Evidence.parse(json.dumps(found["evidence"], separators=(",", ":"), sort_keys=True).encode())


def test_without_report_data_it_commits_to_fresh_random_bytes(snp: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [json.loads(on(snp, monkeypatch, "--json")[1])["report_data"] for _ in range(2)]
    assert len(set(found)) == 2
    assert {len(item) for item in found} == {128}


def test_endorsements_of_a_folder_go_along(snp: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crl.json").write_bytes(b"{}")
    _, output = on(snp, monkeypatch, "--json", "--endorsements", str(tmp_path))
    evidence = json.loads(output)["evidence"]
    assert len(evidence["endorsements"]) == 2
    assert simulated_chip().endorsement


@pytest.mark.parametrize("text", ["", "00", "00" * 63, "00" * 65, "zz" * 64])
def test_report_data_is_64_bytes(snp: Machine, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    code, output = on(snp, monkeypatch, "--report-data", text)
    assert (code, "--report-data: expected 128 hexadecimal digits" in output) == (2, True)


def test_an_interface_that_fails_says_why_and_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeSevGuest(vmpck=False)
    code, output = on(replace(this_machine(), sev_guest=device), monkeypatch)
    assert code == 2
    assert "sev-snp: /dev/sev-guest: the kernel threw away this guest's key to the firmware (VMPCK)" in output


def test_a_file_that_cant_be_written_is_said(snp: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = on(snp, monkeypatch, "--out", str(tmp_path / "none" / "x"))
    assert (code, "expected a file to write to, found No such file" in output) == (2, True)


def test_a_nitro_enclave(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = on(replace(this_machine(), nsm=FakeNsm()), monkeypatch)
    assert (code, "collected nitro evidence" in output) == (0, True), output
