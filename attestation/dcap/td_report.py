"""A trust domain's report body: 584 bytes (TDX 1.0), or 648 (TDX 1.5), as it stands in a quote.

Source: Intel TDX DCAP quoting library API, A.3.2 "TD Quote Body"; Intel TDX module base architecture specification,
TD attributes.
"""

from dataclasses import dataclass
from enum import IntEnum

from attestation.dcap.fields import FieldReader

TD_REPORT_10_BYTES = 584
TD_REPORT_15_BYTES = 648
MEASUREMENT_BYTES = 48
_MEASUREMENTS = ("mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2", "rtmr3")


class TdFlag(IntEnum):
    """Bits of TD_ATTRIBUTES that we know."""

    DEBUG = 0
    SEPT_VE_DISABLE = 28
    MIGRATABLE = 29
    PKS = 30
    KEY_LOCKER = 31
    PERFMON = 63

    def is_set(self, attributes: bytes) -> bool:
        """Whether 8 little-endian bytes have this bit."""
        return bool(int.from_bytes(attributes, "little") >> self.value & 1)


KNOWN_TD_ATTRIBUTES = sum(1 << flag for flag in TdFlag)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """What the TDX module says of a trust domain.

    `tee_tcb_svn` are the security versions at launch; `tee_tcb_svn2` those now, and `mr_service_td` the measurement of
    the service TDs bound to it: both None in a 1.0 report. Measurements are 48 bytes, attributes and `xfam` 8 bytes.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None
    mr_service_td: bytes | None

    @classmethod
    def parse(cls, data: bytes) -> "TdReport":
        """Read 584 or 648 bytes; raises `EvidenceMalformed` for any other number."""
        reader = FieldReader(data, "TD report")
        tee_tcb_svn = reader.take(16, "tee_tcb_svn")
        mr_seam = reader.take(MEASUREMENT_BYTES, "mr_seam")
        mr_signer_seam = reader.take(MEASUREMENT_BYTES, "mr_signer_seam")
        seam_attributes = reader.take(8, "seam_attributes")
        td_attributes = reader.take(8, "td_attributes")
        xfam = reader.take(8, "xfam")
        measurements = {name: reader.take(MEASUREMENT_BYTES, name) for name in _MEASUREMENTS}
        report_data = reader.take(64, "report_data")
        extended = len(data) != TD_REPORT_10_BYTES
        tee_tcb_svn2 = reader.take(16, "tee_tcb_svn2") if extended else None
        mr_service_td = reader.take(MEASUREMENT_BYTES, "mr_service_td") if extended else None
        reader.end()
        return cls(
            tee_tcb_svn=tee_tcb_svn,
            mr_seam=mr_seam,
            mr_signer_seam=mr_signer_seam,
            seam_attributes=seam_attributes,
            td_attributes=td_attributes,
            xfam=xfam,
            report_data=report_data,
            tee_tcb_svn2=tee_tcb_svn2,
            mr_service_td=mr_service_td,
            **measurements,
        )

    def encode(self) -> bytes:
        """The bytes that `parse` reads."""
        return b"".join(
            (
                self.tee_tcb_svn,
                self.mr_seam,
                self.mr_signer_seam,
                self.seam_attributes,
                self.td_attributes,
                self.xfam,
                *(getattr(self, name) for name in _MEASUREMENTS),
                self.report_data,
                self.tee_tcb_svn2 or b"",
                self.mr_service_td or b"",
            )
        )

    @property
    def debug(self) -> bool:
        """Whether its memory can be read from outside: DEBUG, or a bit of that group that we don't know."""
        return bool(self.td_attributes[0])
