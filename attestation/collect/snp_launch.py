"""The launch measurement that SEV-SNP firmware will report of an image: for agreements, and for auditors to check them.

What is measured is the firmware file, the digests of kernel, initrd and command line in the page that the firmware sets
aside for them, and the first state of each virtual processor, all as the hypervisor sets it up. The computation is
`sev-snp-measure`'s (VirTEE); it is imported here, when it is asked for, and nowhere else.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from attestation.collect.measurement import NotMeasurable
from attestation.snp.reference_values import MEASUREMENT_BYTES
from attestation.terms import Covers

PAGE_BYTES: Final = 4096
LARGEST_FIRMWARE_BYTES: Final = 64 * 2**20
LARGEST_SECTIONS_BYTES: Final = 256 * 2**20
MAXIMUM_VCPUS: Final = 4096
SNP_ACTIVE: Final = 0x1
"""SEV_FEATURES as most hypervisors set it: bit 0 alone (AMD APM volume 2, VMSA)."""


class Hypervisor(StrEnum):
    """Who sets up the guest: they differ in the first state of processors and pages."""

    QEMU = "qemu"
    EC2 = "ec2"
    GCE = "gce"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchImage:
    """What a guest is launched with.

    `kernel` None: the firmware boots from a disk that nobody measures. `vcpu_type` is QEMU's name of a processor
    ("EPYC-Genoa"), which other hypervisors don't show. `guest_features` is SEV_FEATURES.
    """

    firmware: Path
    kernel: Path | None
    initrd: Path | None
    command_line: str
    vcpus: int
    vcpu_type: str | None
    guest_features: int
    hypervisor: Hypervisor

    @property
    def covers(self) -> Covers:
        """How far its measurement reaches."""
        return Covers.FIRMWARE_ONLY if self.kernel is None else Covers.CODE

    def measure(self) -> bytes:
        """The launch measurement, 48 bytes; raises `NotMeasurable` in one line."""
        self._check()
        try:
            return self._digest()
        except OSError as error:
            raise NotMeasurable(f"{error.filename}: expected a readable file, found {error.strerror}") from error
        except NotMeasurable:
            raise
        except Exception as error:
            # The library raises whatever its reading of a strange file comes upon.
            said = " ".join(str(error).split()) or type(error).__name__
            raise NotMeasurable(
                f"{self.firmware}: expected OVMF firmware for SEV-SNP, found an error: {said}"
            ) from error

    def _check(self) -> None:
        if self.kernel is None and (self.initrd is not None or self.command_line):
            raise NotMeasurable("initrd and command line: expected a kernel that they belong to, found none")
        if not 1 <= self.vcpus <= MAXIMUM_VCPUS:
            raise NotMeasurable(f"vcpus: expected 1 to {MAXIMUM_VCPUS}, found {self.vcpus}")
        if not 0 <= self.guest_features < 2**64:
            raise NotMeasurable(f"guest features: expected 64 bits, found {self.guest_features:#x}")
        if not self.command_line.isprintable():
            raise NotMeasurable("command line: expected printable text, found something else")
        try:
            size = self.firmware.stat().st_size
        except OSError as error:
            raise NotMeasurable(f"{self.firmware}: expected a readable file, found {error.strerror}") from error
        if not 0 < size <= LARGEST_FIRMWARE_BYTES or size % PAGE_BYTES:
            raise NotMeasurable(
                f"{self.firmware}: expected firmware of whole pages of {PAGE_BYTES} bytes, at most "
                f"{LARGEST_FIRMWARE_BYTES}, found {size} bytes"
            )

    def _digest(self) -> bytes:
        from sevsnpmeasure import guest  # type: ignore[import-untyped]
        from sevsnpmeasure.ovmf import OVMF, SectionType  # type: ignore[import-untyped]
        from sevsnpmeasure.sev_mode import SevMode  # type: ignore[import-untyped]
        from sevsnpmeasure.vcpu_types import CPU_SIGS  # type: ignore[import-untyped]
        from sevsnpmeasure.vmm_types import VMMType  # type: ignore[import-untyped]

        # Each page is hashed: a file that declares terabytes of them would keep an auditor waiting.
        sections = OVMF(str(self.firmware)).metadata_items()
        declared = sum(section.size for section in sections)
        if declared > LARGEST_SECTIONS_BYTES:
            raise NotMeasurable(
                f"{self.firmware}: expected sections of at most {LARGEST_SECTIONS_BYTES} bytes, found {declared}"
            )
        for section in sections:
            # The library asserts this, and `python -O` takes its asserts away.
            of_hashes = self.kernel is not None and section.section_type() is SectionType.SNP_KERNEL_HASHES
            if section.size % PAGE_BYTES or (of_hashes and section.size != PAGE_BYTES):
                which = f"one page of {PAGE_BYTES} bytes of hashes" if of_hashes else f"pages of {PAGE_BYTES} bytes"
                raise NotMeasurable(f"{self.firmware}: expected sections of {which}, found one of {section.size} bytes")
        signature = 0
        if self.hypervisor is Hypervisor.QEMU:
            if self.vcpu_type not in CPU_SIGS:
                raise NotMeasurable(f"vcpu type: expected one of {', '.join(CPU_SIGS)}, found {self.vcpu_type}")
            signature = CPU_SIGS[self.vcpu_type]
        digest: bytes = guest.calc_launch_digest(
            SevMode.SEV_SNP,
            self.vcpus,
            signature,
            str(self.firmware),
            None if self.kernel is None else str(self.kernel),
            None if self.initrd is None else str(self.initrd),
            self.command_line,
            self.guest_features,
            vmm_type={
                Hypervisor.QEMU: VMMType.QEMU,
                Hypervisor.EC2: VMMType.ec2,
                Hypervisor.GCE: VMMType.gce,
            }[self.hypervisor],
        )
        if len(digest) != MEASUREMENT_BYTES:
            raise NotMeasurable(f"{self.firmware}: expected {MEASUREMENT_BYTES} bytes, found {len(digest)}")
        return digest
