"""Launch measurements of images: known ones, an independent computation of the pages, and errors of one line."""

import functools
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from ovmf_image import AMD_SEV_SECTIONS, KERNEL_HASHES, ovmf
from sevsnpmeasure import guest

from attestation.collect.measurement import NotMeasurable
from attestation.collect.snp_launch import Hypervisor, LaunchImage
from attestation.terms import Covers

# The digest of the firmware pages of `ovmf_AmdSev_suffix.bin`, and launch digests with it: virtee/sev-snp-measure,
# tests/test_guest.py (Apache-2.0). That file is not here; what is measured beside its bytes is its metadata, which
# `ovmf_image` writes.
AMD_SEV_PAGES = "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74"
KNOWN = [
    (
        {"guest_features": 0x21},
        "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
    ),
    ({}, "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5"),
    (
        {"command_line": "console=ttyS0 loglevel=7", "guest_features": 0x21},
        "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
    ),
    (
        {"command_line": "console=ttyS0 loglevel=7"},
        "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
    ),
    (
        {"kernel": None, "initrd": None, "guest_features": 0x21},
        "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b",
    ),
    (
        {"kernel": None, "initrd": None},
        "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
    ),
    (
        {"vcpus": 4, "guest_features": 0x21},
        "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
    ),
    (
        {"vcpus": 4},
        "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
    ),
]


@pytest.fixture
def image(tmp_path: Path) -> LaunchImage:
    """One processor, an empty kernel and an empty initrd, as the known digests have them."""
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "OVMF.fd").write_bytes(ovmf())
    return LaunchImage(
        firmware=tmp_path / "OVMF.fd",
        kernel=tmp_path / "kernel",
        initrd=tmp_path / "initrd",
        command_line="",
        vcpus=1,
        vcpu_type="EPYC-v4",
        guest_features=0x1,
        hypervisor=Hypervisor.QEMU,
    )


@pytest.mark.parametrize(("changes", "digest"), KNOWN)
def test_published_launch_digests(
    image: LaunchImage, changes: dict[str, object], digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_pages = functools.partial(guest.calc_launch_digest, snp_ovmf_hash_str=AMD_SEV_PAGES)
    monkeypatch.setattr(guest, "calc_launch_digest", known_pages)
    assert replace(image, **changes).measure().hex() == digest  # type: ignore[arg-type]


def page_info(digest: bytes, kind: int, address: int, contents: bytes) -> bytes:
    """SNP firmware ABI (AMD 56860), PAGE_INFO: the launch digest after one more page."""
    return hashlib.sha384(digest + contents + struct.pack("<HBBBBBxQ", 0x70, kind, 0, 0, 0, 0, address)).digest()


def test_the_firmwares_own_pages_are_measured_in_their_place(image: LaunchImage) -> None:
    """Independently of the library: the firmware ends at 4 GiB; each page's SHA-384 goes into the digest in turn."""
    data = ovmf(size=8192)
    image.firmware.write_bytes(data)
    digest = bytes(48)
    for offset in (0, 4096):
        page = hashlib.sha384(data[offset : offset + 4096]).digest()
        digest = page_info(digest, 1, 2**32 - 8192 + offset, page)
    assert guest.calc_snp_ovmf_hash(str(image.firmware)) == digest
    before = image.measure()
    image.firmware.write_bytes(data[:100] + b"\1" + data[101:])
    assert image.measure() != before


def test_everything_that_is_measured_changes_the_digest(image: LaunchImage, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    variants = [
        image,
        replace(image, kernel=tmp_path / "other"),
        replace(image, initrd=tmp_path / "other"),
        replace(image, command_line="quiet"),
        replace(image, kernel=None, initrd=None),
        replace(image, vcpus=2),
        replace(image, vcpu_type="EPYC-Genoa"),
        replace(image, guest_features=0x21),
        replace(image, hypervisor=Hypervisor.EC2),
        replace(image, hypervisor=Hypervisor.GCE),
    ]
    assert len({variant.measure() for variant in variants}) == len(variants)


def test_an_empty_initrd_is_as_good_as_none(image: LaunchImage) -> None:
    """As QEMU does it: the digest of nothing stands in the page of hashes."""
    assert replace(image, initrd=None).measure() == image.measure()


def test_without_a_kernel_it_stops_at_the_firmware(image: LaunchImage) -> None:
    assert image.covers is Covers.CODE
    assert replace(image, kernel=None, initrd=None).covers is Covers.FIRMWARE_ONLY


@pytest.mark.parametrize(
    ("firmware", "words"),
    [
        (b"", "expected firmware of whole pages of 4096 bytes, .* found 0 bytes"),
        (bytes(4095), "found 4095 bytes"),
        (bytes(4096), "found an error: .*SNP_KERNEL_HASHES"),
        (ovmf(tuple(section for section in AMD_SEV_SECTIONS if section[2] != KERNEL_HASHES)), "SNP_KERNEL_HASHES"),
        (ovmf(hash_table=None), "SEV_HASH_TABLE_RV_GUID"),
        (ovmf(reset_address=None), "SEV_ES_RESET_BLOCK_GUID"),
        (ovmf(((0x800000, 0x1000, 99),)), "99 is not a valid SectionType"),
        (ovmf(((0x800000, 0x1001, 1),)), "expected sections of pages of 4096 bytes, found one of 4097 bytes"),
        (
            ovmf((*AMD_SEV_SECTIONS[:-2], (0x810000, 0x2000, KERNEL_HASHES))),
            "expected sections of one page of 4096 bytes of hashes, found one of 8192 bytes",
        ),
        (ovmf().replace(b"ASEV", b"XSEV"), "Wrong SEV metadata signature"),
        (ovmf(((0, 0xFFFFF000, 1),) * 100), "expected sections of at most 268435456 bytes, found"),
        (
            ovmf().replace(b"ASEV" + struct.pack("<III", 100, 1, 7), b"ASEV" + struct.pack("<III", 100, 1, 2**31)),
            "error",
        ),
    ],
)
def test_what_is_no_firmware_for_snp_is_said_in_one_line(image: LaunchImage, firmware: bytes, words: str) -> None:
    image.firmware.write_bytes(firmware)
    with pytest.raises(NotMeasurable, match=words) as caught:
        image.measure()
    assert "\n" not in str(caught.value)
    assert str(image.firmware) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vcpu_type": "EPYC-Naples"}, "vcpu type: expected one of EPYC, .*EPYC-Turin, found EPYC-Naples"),
        ({"vcpu_type": None}, "vcpu type: expected one of"),
        ({"vcpus": 0}, "vcpus: expected 1 to 4096, found 0"),
        ({"vcpus": 5000}, "vcpus: expected 1 to 4096"),
        ({"guest_features": 2**64}, "guest features: expected 64 bits"),
        ({"kernel": None}, "expected a kernel that they belong to"),
        ({"kernel": None, "initrd": None, "command_line": "quiet"}, "expected a kernel that they belong to"),
        ({"command_line": "a\nb"}, "command line: expected printable text"),
        ({"firmware": Path("/nonexistent/OVMF.fd")}, "/nonexistent/OVMF.fd: expected a readable file, found No such"),
        ({"kernel": Path("/nonexistent/vmlinuz")}, "/nonexistent/vmlinuz: expected a readable file, found No such"),
    ],
)
def test_what_does_not_make_an_image_is_said_in_one_line(
    image: LaunchImage, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(NotMeasurable, match=words):
        replace(image, **changes).measure()  # type: ignore[arg-type]
