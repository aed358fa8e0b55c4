"""TDX and Nitro from inside. Neither gives its code a key that outlives a restart."""

from typing import Final

from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectionFailed, NoSealingKey
from attestation.collect.nsm import Nsm
from attestation.collect.tsm import PROVIDER_TDX, ReportInterface, collect
from attestation.evidence import Evidence
from attestation.report_data import REPORT_DATA_BYTES
from attestation.tee import Tee

LARGEST_QUOTE_BYTES: Final = 8 * 1024
"""A longer one is in DICE form (Documentation/ABI/testing/configfs-tsm-report), which nothing here reads."""


class TdxPlatform:
    """A trust domain under TDX; its quotes come from configfs-tsm only."""

    def __init__(self, *, interface: ReportInterface, endorsements: EndorsementFolder) -> None:
        self._interface = interface
        self._endorsements = endorsements

    @property
    def tee(self) -> Tee:
        """Always `Tee.TDX`."""
        return Tee.TDX

    def evidence(self, report_data: bytes) -> Evidence:
        """A fresh quote over 64 bytes, and the collateral that is in the folder; raises `CollectionFailed`."""
        found = collect(self._interface, report_data)
        name = self._interface.name
        if found.provider != PROVIDER_TDX:
            raise CollectionFailed(f"{name}: provider: expected {PROVIDER_TDX}, found {found.provider}")
        if len(found.report) > LARGEST_QUOTE_BYTES:
            raise CollectionFailed(
                f"{name}: expected a quote of at most {LARGEST_QUOTE_BYTES} bytes, found {len(found.report)}: this "
                "platform attests in DICE form, which this version can't read"
            )
        return Evidence(tee=self.tee, report=found.report, endorsements=self._endorsements.read())

    def sealing_key(self) -> bytes:
        """Raises `NoSealingKey`."""
        raise NoSealingKey("TDX: Linux gives a trust domain no sealing key, so that no secret outlives a restart")


class NitroPlatform:
    """An AWS Nitro enclave. Its documents bring their certificates along."""

    def __init__(self, *, module: Nsm, endorsements: EndorsementFolder) -> None:
        self._module = module
        self._endorsements = endorsements

    @property
    def tee(self) -> Tee:
        """Always `Tee.NITRO`."""
        return Tee.NITRO

    def evidence(self, report_data: bytes) -> Evidence:
        """A fresh document with the 64 bytes as `user_data`, and no nonce or public key: those are in the 64 bytes.

        Raises `CollectionFailed`.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise ValueError(f"report_data: expected {REPORT_DATA_BYTES} bytes, found {len(report_data)}")
        document = self._module.attest(user_data=report_data)
        return Evidence(tee=self.tee, report=document, endorsements=self._endorsements.read())

    def sealing_key(self) -> bytes:
        """Raises `NoSealingKey`."""
        raise NoSealingKey("Nitro: an enclave gets no sealing key, so that no secret outlives a restart")
