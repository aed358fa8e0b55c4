"""`strongroom appliance measure`: what evidence of the appliance must say, for the agreement and for its auditors."""

import json
import re
from pathlib import Path

import click

from attestation.collect.measurement import NotMeasurable, installed_code, measure
from attestation.collect.snp_launch import SNP_ACTIVE, Hypervisor, LaunchImage
from attestation.errors import ReferenceValuesError
from attestation.simulated.reference_values import simulated_reference_values
from attestation.snp.flags import PlatformFlag, SigningKey
from attestation.snp.product import Product
from attestation.snp.reference_values import ANY_CHIP, SnpReferenceValues
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from attestation.terms import Revocation
from protocol.agreement_tees import render_tee
from strongroom.commands.failure import Failure

PROTECTS_NOTHING = (
    "The TEE is simulated: THIS PROTECTS NOTHING. Whoever runs this machine can read every update. For trying out only."
)
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_IMAGE_FILES = {"firmware": "OVMF.fd", "kernel": "vmlinuz", "initrd": "initrd.img"}
_COMMAND_LINE_FILE = "cmdline"
_FOR_A_BLOCK = "of the machines, with --toml"


class _HexInteger(click.ParamType[int]):
    name = "hex"

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]{1,16}", str(value)):
            self.fail(f"expected a hexadecimal number of at most 64 bits, found {value!r}", param, context)
        return int(str(value), 16)


@click.command("measure", short_help="Print the measurement of the installed code, or of an image.")
@click.option("--image", type=_FOLDER, help="A folder with OVMF.fd, vmlinuz, initrd.img and cmdline, for SEV-SNP.")
@click.option("--firmware", type=_FILE, help="The firmware (OVMF), in place of the image's.")
@click.option("--kernel", type=_FILE, help="The kernel, in place of the image's.")
@click.option("--initrd", type=_FILE, help="The initrd, in place of the image's.")
@click.option("--command-line", metavar="TEXT", help="The kernel's command line, in place of the image's.")
@click.option("--vcpus", type=int, help="How many virtual processors the guest is launched with.")
@click.option("--vcpu-type", metavar="NAME", help="Their type, as QEMU names it, such as EPYC-Genoa.")
@click.option(
    "--guest-features", type=_HexInteger(), default=SNP_ACTIVE, help="The guest's SEV_FEATURES.  [default: 0x1]"
)
@click.option(
    "--hypervisor",
    type=click.Choice([item.value for item in Hypervisor]),
    default=Hypervisor.QEMU.value,
    show_default=True,
    help="Who launches it.",
)
@click.option(
    "--product", type=click.Choice([item.value for item in Product]), help=f"The product line {_FOR_A_BLOCK}."
)
@click.option(
    "--minimum-tcb",
    metavar="TEXT",
    help=f"The oldest firmware {_FOR_A_BLOCK}: bootloader=10,tee=0,snp=25,microcode=84 (and fmc for Turin).",
)
@click.option("--policy", type=_HexInteger(), help="The guest policy, with --toml, such as 0x30000.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--toml", "as_toml", is_flag=True, help="Print the [[appliance.tee]] block to paste.")
def command(
    image: Path | None,
    firmware: Path | None,
    kernel: Path | None,
    initrd: Path | None,
    command_line: str | None,
    vcpus: int | None,
    vcpu_type: str | None,
    guest_features: int,
    hypervisor: str,
    product: str | None,
    minimum_tcb: str | None,
    policy: int | None,
    *,
    as_json: bool,
    as_toml: bool,
) -> None:
    """Print what an agreement's reference values must hold.

    Without an image: the simulated measurement of the installed code. With one: the launch measurement that SEV-SNP
    firmware reports of a guest with this firmware, kernel, initrd and command line. Whoever has the same image gets
    the same 48 bytes, and can so check the agreement.
    """
    if image is None and firmware is None:
        if any(
            item is not None for item in (kernel, initrd, command_line, vcpus, vcpu_type, product, minimum_tcb, policy)
        ):
            raise Failure("--firmware: expected an image's firmware (or --image FOLDER), found none")
        _installed_code(as_json=as_json, as_toml=as_toml)
        return
    if vcpus is None:
        raise Failure("--vcpus: expected how many processors the guest is launched with, found nothing")
    files = _files(image, {"firmware": firmware, "kernel": kernel, "initrd": initrd})
    if files["firmware"] is None:
        raise Failure(f"{image}: expected OVMF.fd in it (or --firmware FILE), found none")
    launch = LaunchImage(
        firmware=files["firmware"],
        kernel=files["kernel"],
        initrd=files["initrd"],
        command_line=_command_line(image) if command_line is None else command_line,
        vcpus=vcpus,
        vcpu_type=vcpu_type,
        guest_features=guest_features,
        hypervisor=Hypervisor(hypervisor),
    )
    digest = _measured(launch)
    if as_toml:
        click.echo(
            render_tee(_values(launch, digest, product, minimum_tcb, policy), "appliance.tee", explained=True), nl=False
        )
    elif as_json:
        click.echo(json.dumps({"tee": Tee.SEV_SNP, "measurement": digest.hex(), "covers": launch.covers}))
    else:
        click.echo(digest.hex())


def _installed_code(*, as_json: bool, as_toml: bool) -> None:
    try:
        digest = measure(installed_code()).hex()
    except NotMeasurable as error:
        raise Failure(str(error)) from error
    if as_toml:
        click.secho(PROTECTS_NOTHING, fg="red", bold=True, err=True)
        click.echo(render_tee(simulated_reference_values(bytes.fromhex(digest)), "appliance.tee"), nl=False)
    else:
        click.echo(json.dumps({"tee": "simulated", "measurement": digest}) if as_json else digest)


def _files(image: Path | None, given: dict[str, Path | None]) -> dict[str, Path | None]:
    """Each file as given, or as it stands in the image's folder."""
    files = dict(given)
    for part, name in _IMAGE_FILES.items():
        if image is not None and files[part] is None and (image / name).is_file():
            files[part] = image / name
    return files


def _command_line(image: Path | None) -> str:
    """The image's, without the end of its line."""
    file = None if image is None else image / _COMMAND_LINE_FILE
    if file is None or not file.exists():
        return ""
    try:
        return file.read_text("utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        raise Failure(f"{file}: expected a line of text, found an error: {error}") from error


def _measured(launch: LaunchImage) -> bytes:
    try:
        return launch.measure()
    except NotMeasurable as error:
        raise Failure(str(error)) from error


def _values(
    launch: LaunchImage, measurement: bytes, product: str | None, minimum_tcb: str | None, policy: int | None
) -> SnpReferenceValues:
    """A strict block: one product, its chips' own keys, nothing that the host commits to, nobody's ID block."""
    if product is None or minimum_tcb is None or policy is None:
        raise Failure(
            "--toml: expected --product, --minimum-tcb and --policy, which no image tells "
            "(`strongroom attest reference` reads them from a machine's evidence)"
        )
    try:
        return SnpReferenceValues(
            tee=Tee.SEV_SNP,
            products=(Product(product),),
            measurements=(measurement,),
            covers=launch.covers,
            revocation=Revocation.MINIMUM_TCB,
            minimum_tcb=(_tcb(Product(product), minimum_tcb),),
            provisional_firmware=False,
            policies=(policy,),
            platform_required=(PlatformFlag.ALIAS_CHECK_COMPLETE,),
            mitigations_required=0,
            vmpl=0,
            signing_keys=(SigningKey.VCEK,),
            csp_ids=(),
            chip_ids=ANY_CHIP,
            host_data=bytes(32),
            id_block=None,
        )
    except ReferenceValuesError as error:
        raise Failure(str(error)) from error


def _tcb(product: Product, text: str) -> TcbVersion:
    parts = [part.strip().partition("=") for part in text.split(",")]
    numbers = {name: int(value) for name, _, value in parts if re.fullmatch("[0-9]{1,3}", value)}
    try:
        if len(numbers) != len(parts):
            raise ValueError(text)
        return TcbVersion(product=product, **numbers)
    except (TypeError, ValueError) as error:
        names = (
            "fmc, bootloader, tee, snp, microcode" if product is Product.TURIN else "bootloader, tee, snp, microcode"
        )
        raise Failure(f"--minimum-tcb: expected {names}, each =0 to =255 and once, found {text[:80]!r}") from error
