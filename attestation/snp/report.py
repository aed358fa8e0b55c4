"""The SEV-SNP attestation report: 1,184 bytes to frozen types and back.

Trusts nothing and proves nothing: a report that parses may still be forged (`authenticate` decides) or unwanted
(`appraise` decides). Every reserved bit is checked, so that nothing signed can hide where nobody looks.

Source: AMD 56860 (SEV Secure Nested Paging Firmware ABI), ATTESTATION_REPORT structure; integers are little-endian.
"""

from dataclasses import dataclass
from typing import Final

from attestation.errors import EvidenceMalformed
from attestation.snp.flags import PolicyFlag, SigningKey

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
VERSIONS: Final = (2, 3, 4, 5)
FIRST_VERSION_WITH_CPUID: Final = 3
FIRST_VERSION_WITH_MITIGATIONS: Final = 5
ECDSA_P384_SHA384: Final = 1

# Where each field of the structure lies, under the specification's name.
_VERSION = slice(0x000, 0x004)
_GUEST_SVN = slice(0x004, 0x008)
_POLICY = slice(0x008, 0x010)
_FAMILY_ID = slice(0x010, 0x020)
_IMAGE_ID = slice(0x020, 0x030)
_VMPL = slice(0x030, 0x034)
_SIGNATURE_ALGO = slice(0x034, 0x038)
_CURRENT_TCB = slice(0x038, 0x040)
_PLATFORM_INFO = slice(0x040, 0x048)
_KEY_INFO = slice(0x048, 0x04C)
_RESERVED_04C = slice(0x04C, 0x050)
_REPORT_DATA = slice(0x050, 0x090)
_MEASUREMENT = slice(0x090, 0x0C0)
_HOST_DATA = slice(0x0C0, 0x0E0)
_ID_KEY_DIGEST = slice(0x0E0, 0x110)
_AUTHOR_KEY_DIGEST = slice(0x110, 0x140)
_REPORT_ID = slice(0x140, 0x160)
_REPORT_ID_MA = slice(0x160, 0x180)
_REPORTED_TCB = slice(0x180, 0x188)
_CPUID = slice(0x188, 0x18B)  # CPUID_FAM_ID, CPUID_MOD_ID, CPUID_STEP: version 3 on, reserved before
_RESERVED_18B = slice(0x18B, 0x1A0)
_CHIP_ID = slice(0x1A0, 0x1E0)
_COMMITTED_TCB = slice(0x1E0, 0x1E8)
_CURRENT_BUILD_MINOR_MAJOR = slice(0x1E8, 0x1EB)
_RESERVED_1EB = slice(0x1EB, 0x1EC)
_COMMITTED_BUILD_MINOR_MAJOR = slice(0x1EC, 0x1EF)
_RESERVED_1EF = slice(0x1EF, 0x1F0)
_LAUNCH_TCB = slice(0x1F0, 0x1F8)
_LAUNCH_MIT_VECTOR = slice(0x1F8, 0x200)  # version 5 on, reserved before
_CURRENT_MIT_VECTOR = slice(0x200, 0x208)  # version 5 on, reserved before
_RESERVED_208 = slice(0x208, 0x2A0)
_SIGNATURE_R = slice(0x2A0, 0x2D0)
_SIGNATURE_R_ABOVE_P384 = slice(0x2D0, 0x2E8)
_SIGNATURE_S = slice(0x2E8, 0x318)
_SIGNATURE_S_ABOVE_P384 = slice(0x318, 0x330)
_RESERVED_330 = slice(0x330, 0x4A0)
_RESERVED: Final = (_RESERVED_04C, _RESERVED_18B, _RESERVED_1EB, _RESERVED_1EF, _RESERVED_208)
_RESERVED_IN_SIGNATURE: Final = (_SIGNATURE_R_ABOVE_P384, _SIGNATURE_S_ABOVE_P384, _RESERVED_330)

# KEY_INFO: bit 0 AUTHOR_KEY_EN, bit 1 MASK_CHIP_KEY, bits 4:2 SIGNING_KEY, the rest reserved.
_SIGNING_KEYS: Final = {0: SigningKey.VCEK, 1: SigningKey.VLEK}
_SIGNING_KEY_NONE: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpuid:
    """Combined family, combined model and stepping of the processor, a byte each."""

    family: int
    model: int
    stepping: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareVersion:
    """The version of the SNP firmware, a byte each."""

    build: int
    minor: int
    major: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report claims: the signed part, 672 bytes.

    The four TCB versions are 8 raw bytes each, because their layout depends on the product (`TcbVersion.parse`).
    `cpuid` is None in version 2; the mitigation vectors are None before version 5. `signing_key` is None in an
    unsigned report. `vmpl` is the raw number: 0xFFFFFFFF means that the host asked for the report.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: bytes
    platform_info: int
    author_key_enabled: bool
    mask_chip_key: bool
    signing_key: SigningKey | None
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid: Cpuid | None
    chip_id: bytes
    committed_tcb: bytes
    current_version: FirmwareVersion
    committed_version: FirmwareVersion
    launch_tcb: bytes
    launch_mitigations: int | None
    current_mitigations: int | None

    @classmethod
    def parse(cls, data: bytes) -> "Report":
        """Read the 672 signed bytes; raises `EvidenceMalformed` naming the field."""
        if len(data) != SIGNED_BYTES:
            raise EvidenceMalformed("report", expected=f"{SIGNED_BYTES} signed bytes", found=str(len(data)))
        version = _integer(data, _VERSION)
        if version not in VERSIONS:
            raise EvidenceMalformed("version", expected="2, 3, 4 or 5", found=str(version))
        for place in _RESERVED:
            _zero(data, place)
        algorithm = _integer(data, _SIGNATURE_ALGO)
        if algorithm != ECDSA_P384_SHA384:
            raise EvidenceMalformed("signature_algo", expected="1 (ECDSA P-384 with SHA-384)", found=str(algorithm))
        policy = _integer(data, _POLICY)
        if not PolicyFlag.RESERVED_MUST_BE_ONE.is_set(policy):
            raise EvidenceMalformed("policy", expected="reserved bit 17 to be 1", found=f"{policy:#x}")
        author_key_enabled, mask_chip_key, signing_key = _parse_key_info(_integer(data, _KEY_INFO))
        return cls(
            version=version,
            guest_svn=_integer(data, _GUEST_SVN),
            policy=policy,
            family_id=data[_FAMILY_ID],
            image_id=data[_IMAGE_ID],
            vmpl=_integer(data, _VMPL),
            current_tcb=data[_CURRENT_TCB],
            platform_info=_integer(data, _PLATFORM_INFO),
            author_key_enabled=author_key_enabled,
            mask_chip_key=mask_chip_key,
            signing_key=signing_key,
            report_data=data[_REPORT_DATA],
            measurement=data[_MEASUREMENT],
            host_data=data[_HOST_DATA],
            id_key_digest=data[_ID_KEY_DIGEST],
            author_key_digest=data[_AUTHOR_KEY_DIGEST],
            report_id=data[_REPORT_ID],
            report_id_ma=data[_REPORT_ID_MA],
            reported_tcb=data[_REPORTED_TCB],
            cpuid=_parse_cpuid(data, version),
            chip_id=data[_CHIP_ID],
            committed_tcb=data[_COMMITTED_TCB],
            current_version=_parse_firmware_version(data[_CURRENT_BUILD_MINOR_MAJOR]),
            committed_version=_parse_firmware_version(data[_COMMITTED_BUILD_MINOR_MAJOR]),
            launch_tcb=data[_LAUNCH_TCB],
            launch_mitigations=_parse_mitigations(data, _LAUNCH_MIT_VECTOR, version),
            current_mitigations=_parse_mitigations(data, _CURRENT_MIT_VECTOR, version),
        )

    def encode(self) -> bytes:
        """The 672 bytes that `parse` reads. Raises `ValueError` if a field does not fit its place."""
        data = bytearray(SIGNED_BYTES)
        _put_integer(data, _VERSION, self.version)
        _put_integer(data, _GUEST_SVN, self.guest_svn)
        _put_integer(data, _POLICY, self.policy)
        _put(data, _FAMILY_ID, self.family_id)
        _put(data, _IMAGE_ID, self.image_id)
        _put_integer(data, _VMPL, self.vmpl)
        _put_integer(data, _SIGNATURE_ALGO, ECDSA_P384_SHA384)
        _put(data, _CURRENT_TCB, self.current_tcb)
        _put_integer(data, _PLATFORM_INFO, self.platform_info)
        _put_integer(data, _KEY_INFO, self._key_info())
        _put(data, _REPORT_DATA, self.report_data)
        _put(data, _MEASUREMENT, self.measurement)
        _put(data, _HOST_DATA, self.host_data)
        _put(data, _ID_KEY_DIGEST, self.id_key_digest)
        _put(data, _AUTHOR_KEY_DIGEST, self.author_key_digest)
        _put(data, _REPORT_ID, self.report_id)
        _put(data, _REPORT_ID_MA, self.report_id_ma)
        _put(data, _REPORTED_TCB, self.reported_tcb)
        if self.cpuid is not None:
            _put(data, _CPUID, bytes((self.cpuid.family, self.cpuid.model, self.cpuid.stepping)))
        _put(data, _CHIP_ID, self.chip_id)
        _put(data, _COMMITTED_TCB, self.committed_tcb)
        _put(data, _CURRENT_BUILD_MINOR_MAJOR, _encode_firmware_version(self.current_version))
        _put(data, _COMMITTED_BUILD_MINOR_MAJOR, _encode_firmware_version(self.committed_version))
        _put(data, _LAUNCH_TCB, self.launch_tcb)
        _put_integer(data, _LAUNCH_MIT_VECTOR, self.launch_mitigations or 0)
        _put_integer(data, _CURRENT_MIT_VECTOR, self.current_mitigations or 0)
        return bytes(data)

    def _key_info(self) -> int:
        numbers = {key: number for number, key in _SIGNING_KEYS.items()}
        number = _SIGNING_KEY_NONE if self.signing_key is None else numbers[self.signing_key]
        return self.author_key_enabled | self.mask_chip_key << 1 | number << 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReport:
    """A report with its signature: the 1,184 bytes that the firmware hands out.

    `signed` are the 672 bytes as received, which the signature covers. `r` and `s` are 48 bytes each, little-endian.
    """

    report: Report
    signed: bytes
    r: bytes
    s: bytes

    @classmethod
    def parse(cls, data: bytes) -> "SignedReport":
        """Read exactly 1,184 bytes; raises `EvidenceMalformed` naming the field."""
        if len(data) != REPORT_BYTES:
            raise EvidenceMalformed("report", expected=f"{REPORT_BYTES} bytes", found=str(len(data)))
        for place in _RESERVED_IN_SIGNATURE:
            _zero(data, place)
        signed = data[:SIGNED_BYTES]
        return cls(report=Report.parse(signed), signed=signed, r=data[_SIGNATURE_R], s=data[_SIGNATURE_S])

    def encode(self) -> bytes:
        """The 1,184 bytes that `parse` reads. Raises `ValueError` if a part does not fit its place."""
        data = bytearray(REPORT_BYTES)
        _put(data, slice(0, SIGNED_BYTES), self.signed)
        _put(data, _SIGNATURE_R, self.r)
        _put(data, _SIGNATURE_S, self.s)
        return bytes(data)


def _parse_key_info(key_info: int) -> tuple[bool, bool, SigningKey | None]:
    if key_info >> 5:
        raise EvidenceMalformed("key_info", expected="reserved bits 31:5 to be 0", found=f"{key_info:#x}")
    number = key_info >> 2 & 0b111
    if number not in _SIGNING_KEYS and number != _SIGNING_KEY_NONE:
        raise EvidenceMalformed("key_info.signing_key", expected="0 (VCEK), 1 (VLEK) or 7 (none)", found=str(number))
    return bool(key_info & 1), bool(key_info & 2), _SIGNING_KEYS.get(number)


def _parse_cpuid(data: bytes, version: int) -> Cpuid | None:
    if version < FIRST_VERSION_WITH_CPUID:
        _zero(data, _CPUID)
        return None
    family, model, stepping = data[_CPUID]
    return Cpuid(family=family, model=model, stepping=stepping)


def _parse_mitigations(data: bytes, place: slice, version: int) -> int | None:
    if version < FIRST_VERSION_WITH_MITIGATIONS:
        _zero(data, place)
        return None
    return _integer(data, place)


def _parse_firmware_version(data: bytes) -> FirmwareVersion:
    build, minor, major = data
    return FirmwareVersion(build=build, minor=minor, major=major)


def _encode_firmware_version(version: FirmwareVersion) -> bytes:
    return bytes((version.build, version.minor, version.major))


def _integer(data: bytes, place: slice) -> int:
    return int.from_bytes(data[place], "little")


def _zero(data: bytes, place: slice) -> None:
    if any(data[place]):
        raise EvidenceMalformed(
            f"reserved bytes {place.start:#05x} to {place.stop:#05x}", expected="zero", found=data[place].hex()[:64]
        )


def _put(data: bytearray, place: slice, value: bytes) -> None:
    if len(value) != place.stop - place.start:
        raise ValueError(f"offset {place.start:#05x}: expected {place.stop - place.start} bytes, found {len(value)}")
    data[place] = value


def _put_integer(data: bytearray, place: slice, value: int) -> None:
    size = place.stop - place.start
    if not 0 <= value < 256**size:
        raise ValueError(f"offset {place.start:#05x}: expected an integer of {size} bytes, found {value}")
    data[place] = value.to_bytes(size, "little")
