"""A simulated chip and its firmware: makes and signs byte-exact SEV-SNP reports of 1,184 bytes. Protects nothing.

Its signing key ships in this package. Used by `attestation.collect` in place of the kernel's SNP device, and by tests.
"""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256, sha512
from importlib.resources import files
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from attestation.encoding import labelled
from attestation.snp.flags import SigningKey
from attestation.snp.product import Product
from attestation.snp.report import Cpuid, FirmwareVersion, Report, SignedReport
from attestation.snp.tcb import TcbVersion

SIMULATED_PRODUCT: Final = Product.GENOA
SIMULATED_TCB: Final = TcbVersion(product=SIMULATED_PRODUCT, bootloader=10, tee=0, snp=25, microcode=84)
SIMULATED_CHIP_ID: Final = sha512(labelled("strongroom/simulated-chip-id/v1")).digest()
SIMULATED_POLICY: Final = 0x30000
"""ABI 0.0, SMT allowed; no debugging, no migration."""
SIMULATED_PLATFORM_INFO: Final = 0x25
"""SMT, ECC, alias check complete."""
_CPUID = Cpuid(family=0x19, model=0x11, stepping=1)
_FIRMWARE = FirmwareVersion(build=43, minor=55, major=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedChip:
    """A chip whose signing key everybody has: `endorsement` is its VCEK certificate in DER."""

    chip_id: bytes
    tcb: TcbVersion
    key: ec.EllipticCurvePrivateKey
    endorsement: bytes

    def report(self, *, report_data: bytes, measurement: bytes, policy: int, vmpl: int) -> Report:
        """A version-5 report of a guest with this measurement (48 bytes), policy and privilege level."""
        tcb = self.tcb.encode()
        return Report(
            version=5,
            guest_svn=0,
            policy=policy,
            family_id=bytes(16),
            image_id=bytes(16),
            vmpl=vmpl,
            current_tcb=tcb,
            platform_info=SIMULATED_PLATFORM_INFO,
            author_key_enabled=False,
            mask_chip_key=False,
            signing_key=SigningKey.VCEK,
            report_data=report_data,
            measurement=measurement,
            host_data=bytes(32),
            id_key_digest=bytes(48),
            author_key_digest=bytes(48),
            report_id=sha256(labelled("strongroom/simulated-report-id/v1", self.chip_id, measurement)).digest(),
            report_id_ma=b"\xff" * 32,
            reported_tcb=tcb,
            cpuid=_CPUID,
            chip_id=self.chip_id,
            committed_tcb=tcb,
            current_version=_FIRMWARE,
            committed_version=_FIRMWARE,
            launch_tcb=tcb,
            launch_mitigations=0,
            current_mitigations=0,
        )

    def sign(self, report: Report) -> SignedReport:
        """Sign a report as the firmware does. Raises `ValueError` if a field of it does not fit its place."""
        return sign_report(report, self.key)


def sign_report(report: Report, key: ec.EllipticCurvePrivateKey) -> SignedReport:
    """Sign a report with a P-384 key: ECDSA with SHA-384 over the 672 signed bytes, deterministic (RFC 6979)."""
    signed = report.encode()
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA384(), deterministic_signing=True)))
    return SignedReport(report=report, signed=signed, r=r.to_bytes(48, "little"), s=s.to_bytes(48, "little"))


@cache
def simulated_chip() -> SimulatedChip:
    """The chip whose key and certificate ship with this package."""
    directory = files("attestation.simulated").joinpath("hierarchy")
    key = load_pem_private_key(directory.joinpath("vcek_key.pem").read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate(directory.joinpath("vcek.pem").read_bytes())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"vcek_key.pem: expected a P-384 key, found {type(key).__name__}")
    return SimulatedChip(
        chip_id=SIMULATED_CHIP_ID, tcb=SIMULATED_TCB, key=key, endorsement=certificate.public_bytes(Encoding.DER)
    )
