"""An SGX enclave's report body (384 bytes): in a quote, that of the enclave or that of the quoting enclave (QE).

Source: Intel SDM volume 3D, REPORT (table 39-21); Intel SGX ECDSA quote library reference, A.4 "Quote format".
"""

from dataclasses import dataclass
from enum import IntEnum

from attestation.dcap.fields import FieldReader

ENCLAVE_REPORT_BYTES = 384


class EnclaveFlag(IntEnum):
    """Bits of ATTRIBUTES.FLAGS. Source: Intel SDM volume 3D, table 35-4."""

    INIT = 0
    DEBUG = 1
    MODE64BIT = 2
    PROVISION_KEY = 4
    EINITTOKEN_KEY = 5
    CET = 6
    KSS = 7
    AEX_NOTIFY = 10

    def is_set(self, flags: bytes) -> bool:
        """Whether 8 little-endian bytes have this bit."""
        return bool(int.from_bytes(flags, "little") >> self.value & 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
    """What the processor says of an enclave.

    `attributes` are the 8 bytes of flags, `xfrm` the 8 bytes of processor state components. `config_id`, `config_svn`,
    `isv_ext_prod_id` and `isv_family_id` belong to key separation and sharing (KSS) and are zero without it.
    """

    cpu_svn: bytes
    misc_select: bytes
    isv_ext_prod_id: bytes
    attributes: bytes
    xfrm: bytes
    mr_enclave: bytes
    mr_signer: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes, whole: str) -> "EnclaveReport":
        """Read 384 bytes; raises `EvidenceMalformed` naming the field. `whole` says whose report it is."""
        reader = FieldReader(data, whole)
        cpu_svn = reader.take(16, "cpu_svn")
        misc_select = reader.take(4, "misc_select")
        reader.zero(12, f"{whole} (20 to 32)")
        isv_ext_prod_id = reader.take(16, "isv_ext_prod_id")
        attributes, xfrm = reader.take(8, "attributes"), reader.take(8, "xfrm")
        mr_enclave = reader.take(32, "mr_enclave")
        reader.zero(32, f"{whole} (96 to 128)")
        mr_signer = reader.take(32, "mr_signer")
        reader.zero(32, f"{whole} (160 to 192)")
        config_id = reader.take(64, "config_id")
        isv_prod_id = reader.integer(2, "isv_prod_id")
        isv_svn = reader.integer(2, "isv_svn")
        config_svn = reader.integer(2, "config_svn")
        reader.zero(42, f"{whole} (262 to 304)")
        isv_family_id = reader.take(16, "isv_family_id")
        report_data = reader.take(64, "report_data")
        reader.end()
        return cls(
            cpu_svn=cpu_svn,
            misc_select=misc_select,
            isv_ext_prod_id=isv_ext_prod_id,
            attributes=attributes,
            xfrm=xfrm,
            mr_enclave=mr_enclave,
            mr_signer=mr_signer,
            config_id=config_id,
            isv_prod_id=isv_prod_id,
            isv_svn=isv_svn,
            config_svn=config_svn,
            isv_family_id=isv_family_id,
            report_data=report_data,
        )

    def encode(self) -> bytes:
        """The 384 bytes that `parse` reads."""
        return b"".join(
            (
                self.cpu_svn,
                self.misc_select,
                bytes(12),
                self.isv_ext_prod_id,
                self.attributes,
                self.xfrm,
                self.mr_enclave,
                bytes(32),
                self.mr_signer,
                bytes(32),
                self.config_id,
                self.isv_prod_id.to_bytes(2, "little"),
                self.isv_svn.to_bytes(2, "little"),
                self.config_svn.to_bytes(2, "little"),
                bytes(42),
                self.isv_family_id,
                self.report_data,
            )
        )

    @property
    def debug(self) -> bool:
        """Whether its memory can be read from outside."""
        return EnclaveFlag.DEBUG.is_set(self.attributes)
