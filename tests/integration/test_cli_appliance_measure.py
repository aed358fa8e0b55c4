"""`strongroom appliance measure` of an image: the 48 bytes, or a block that an agreement takes as it stands."""

import json
from pathlib import Path

import pytest
from agreement_examples import good_agreement, tee_table
from click.testing import CliRunner
from ovmf_image import ovmf

from attestation.collect.snp_launch import Hypervisor, LaunchImage
from attestation.reference_values import SnpReferenceValues
from attestation.tee import Tee
from attestation.terms import Covers
from protocol.agreement import Agreement
from strongroom import cli

BLOCK = (
    "--toml",
    "--product",
    "Genoa",
    "--minimum-tcb",
    "bootloader=10,tee=0,snp=25,microcode=84",
    "--policy",
    "0x30000",
)
ON_GENOA = ("--vcpus", "2", "--vcpu-type", "EPYC-Genoa")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.cli, ["appliance", "measure", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for name, content in {
        "OVMF.fd": ovmf(),
        "vmlinuz": b"kernel",
        "initrd.img": b"initrd",
        "cmdline": b"quiet\n",
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def measured(image: Path) -> str:
    launch = LaunchImage(
        firmware=image / "OVMF.fd",
        kernel=image / "vmlinuz",
        initrd=image / "initrd.img",
        command_line="quiet",
        vcpus=2,
        vcpu_type="EPYC-Genoa",
        guest_features=1,
        hypervisor=Hypervisor.QEMU,
    )
    return launch.measure().hex()


def test_a_folder_and_its_files_measure_the_same(image: Path) -> None:
    folder = run("--image", image, *ON_GENOA)
    files = run(
        "--firmware", image / "OVMF.fd", "--kernel", image / "vmlinuz", "--initrd", image / "initrd.img",
        "--command-line", "quiet", "--guest-features", "0x1", *ON_GENOA,
    )  # fmt: skip
    assert folder == files == (0, measured(image) + "\n")


def test_what_is_given_takes_the_place_of_the_images(image: Path) -> None:
    (image / "other").write_bytes(b"other")
    found = {
        run("--image", image, *ON_GENOA, *more)[1]
        for more in ((), ("--kernel", image / "other"), ("--command-line", ""), ("--guest-features", "21"))
    }
    assert len(found) == 4


def test_as_json(image: Path) -> None:
    code, output = run("--image", image, *ON_GENOA, "--json")
    assert (code, json.loads(output)) == (0, {"tee": "sev-snp", "measurement": measured(image), "covers": "code"})


def test_the_block_is_what_an_agreement_takes(image: Path) -> None:
    code, block = run("--image", image, *ON_GENOA, *BLOCK)
    assert code == 0, block
    text = good_agreement(tee="sev-snp").replace(tee_table("appliance.tee", "sev-snp"), block)
    [values] = Agreement.parse(text.encode(), "federation.toml").appliance
    assert isinstance(values, SnpReferenceValues)
    assert (values.tee, values.covers) == (Tee.SEV_SNP, Covers.CODE)
    assert [measurement.hex() for measurement in values.measurements] == [measured(image)]


def test_a_block_without_a_kernel_says_that_it_stops_at_the_firmware(image: Path) -> None:
    code, block = run("--firmware", image / "OVMF.fd", *ON_GENOA, *BLOCK)
    assert (code, 'covers = "firmware-only"' in block) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kernel", "vmlinuz"), "--firmware: expected an image's firmware"),
        (("--image", "IMAGE"), "--vcpus: expected how many processors"),
        (("--image", "IMAGE", "--vcpus", "1"), "vcpu type: expected one of EPYC"),
        (("--image", "/", *ON_GENOA), "/: expected OVMF.fd in it"),
        (("--image", "IMAGE", *ON_GENOA, "--toml"), "--toml: expected --product, --minimum-tcb and --policy"),
        (("--image", "IMAGE", *ON_GENOA, *BLOCK[:-1], "0x80000"), "policies: expected bit 17"),
        (("--image", "IMAGE", *ON_GENOA, *BLOCK[:4], "snp=1", *BLOCK[5:]), "--minimum-tcb: expected bootloader"),
        (("--image", "IMAGE", *ON_GENOA, *BLOCK[:4], "snp", *BLOCK[5:]), "--minimum-tcb: expected bootloader"),
        (("--image", "IMAGE", *ON_GENOA, *BLOCK[:4], "", *BLOCK[5:]), "--minimum-tcb: expected bootloader"),
        (("--image", "IMAGE", *ON_GENOA, "--guest-features", "one"), "expected a hexadecimal number"),
        (("--firmware", "IMAGE/vmlinuz", *ON_GENOA), "expected firmware of whole pages"),
    ],
)
def test_what_is_missing_or_wrong_is_said(image: Path, arguments: tuple[str, ...], words: str) -> None:
    code, output = run(*(argument.replace("IMAGE", str(image)) for argument in arguments))
    assert (code, words in output) == (2, True), output


def test_without_an_image_it_is_the_installed_codes(image: Path) -> None:
    code, output = run("--json")
    assert (code, json.loads(output)["tee"]) == (0, "simulated")
