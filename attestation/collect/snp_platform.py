"""SEV-SNP from inside: reports through configfs-tsm or the guest device, and a sealing key from the firmware.

The sealing key comes from the chip's own key and this guest: policy, image and family, launch measurement, security
version, and the minimum TCB that the agreement asks for. That rather than the current one, or the next firmware update
would lose the key; firmware below the agreed minimum can't derive it. What is not in it is who runs the guest: where
a provider's firmware is all that is measured, every tenant's guest on the chip derives the same key.
"""

from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.certificates import load_certificate
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectionFailed, NoSealingKey
from attestation.collect.sev_guest import GuestField, SevGuest, SnpReport
from attestation.collect.tsm import PROVIDER_SNP, ReportInterface, collect
from attestation.encoding import labelled
from attestation.errors import EvidenceMalformed
from attestation.evidence import Evidence
from attestation.report_data import REPORT_DATA_BYTES
from attestation.snp.cert_table import CertTable
from attestation.snp.certificates import EndorsementKey, kind_of
from attestation.snp.product import Product, product_of_cpuid
from attestation.snp.reference_values import SnpReferenceValues
from attestation.snp.report import SignedReport
from attestation.snp.revocation import RevocationList
from attestation.snp.tcb import TcbVersion
from attestation.tee import Tee
from attestation.terms import Revocation

SEALED_TO: Final = (
    GuestField.POLICY
    | GuestField.IMAGE_ID
    | GuestField.FAMILY_ID
    | GuestField.MEASUREMENT
    | GuestField.GUEST_SVN
    | GuestField.TCB_VERSION
)
# What the report behind a sealing key commits to: nobody's evidence.
_SELF = labelled("strongroom/sealing-key-report/v1").ljust(REPORT_DATA_BYTES, b"\0")

ReportSource = Callable[[bytes], SnpReport]


def through_configfs(interface: ReportInterface) -> ReportSource:
    """Reports from configfs-tsm; what it calls auxiliary is the host's table of certificates."""

    def report(report_data: bytes) -> SnpReport:
        found = collect(interface, report_data)
        if found.provider != PROVIDER_SNP:
            raise CollectionFailed(f"{interface.name}: provider: expected {PROVIDER_SNP}, found {found.provider}")
        return SnpReport(report=found.report, certificate_table=found.auxiliary)

    return report


class SnpPlatform:
    """A guest under SEV-SNP. `device` None: reports are to be had, and a sealing key isn't."""

    def __init__(
        self,
        *,
        reports: ReportSource,
        device: SevGuest | None,
        endorsements: EndorsementFolder,
        accepted: Sequence[SnpReferenceValues],
    ) -> None:
        """`accepted`: the agreement's reference values for this machine; their minimum TCB is sealed to."""
        self._reports = reports
        self._device = device
        self._endorsements = endorsements
        self._accepted = tuple(accepted)

    @property
    def tee(self) -> Tee:
        """Always `Tee.SEV_SNP`."""
        return Tee.SEV_SNP

    def evidence(self, report_data: bytes) -> Evidence:
        """A fresh report over 64 bytes, the certificate of the key that signed it, and what else is in the folder.

        Without that certificate there is evidence all the same, which the other side will say it could not check. A
        host's revocation list goes along where the agreement asks for one and the folder has none. Raises
        `CollectionFailed`.
        """
        found = self._reports(report_data)
        kept, host = self._endorsements.read(), _from_host(found.certificate_table)
        leaf = _signer(_parsed(found.report), (*kept, *host))
        others = [item for item in kept if not _is_leaf(item)]
        if self._wants_list and not any(map(_is_list, others)):
            others += filter(_is_list, host)
        endorsements = others if leaf is None else [leaf, *others]
        return Evidence(tee=self.tee, report=found.report, endorsements=tuple(endorsements))

    def sealing_key(self) -> bytes:
        """32 bytes that this guest gets again on this chip; raises `NoSealingKey`, `CollectionFailed`."""
        if self._device is None:
            raise NoSealingKey("SEV-SNP: a sealing key needs /dev/sev-guest, which isn't to be had here")
        found = self._reports(_SELF)
        report = _parsed(found.report)
        minimum = self._minimum_tcb(report, found.certificate_table)
        committed = TcbVersion.parse(report.report.committed_tcb, minimum.product, "committed_tcb")
        if below := committed.below(minimum):
            raise CollectionFailed(
                f"SEV-SNP: minimum_tcb: expected firmware of at least {minimum}, as the agreement says, found "
                f"{committed} committed, too low in {', '.join(below)}; update this machine's firmware"
            )
        return self._device.derived_key(
            fields=SEALED_TO,
            guest_svn=report.report.guest_svn,
            tcb_version=int.from_bytes(minimum.encode(), "little"),
        )

    @property
    def _wants_list(self) -> bool:
        return any(values.revocation is Revocation.CRL for values in self._accepted)

    def _minimum_tcb(self, report: SignedReport, certificate_table: bytes) -> TcbVersion:
        """The lowest of the agreement's minima for this chip's product line, component by component."""
        product = self._product(report, certificate_table)
        minima = [values.minimum_tcb_of(product) for values in self._accepted if product in values.products]
        if not minima:
            accepted = ", ".join(sorted({product for values in self._accepted for product in values.products}))
            raise CollectionFailed(f"SEV-SNP: products: expected {accepted}, as the agreement says, found {product}")
        lowest = {name: min(getattr(tcb, name) for tcb in minima) for name in minima[0].components()}
        return TcbVersion(product=product, **lowest)

    def _product(self, report: SignedReport, certificate_table: bytes) -> Product:
        cpuid = report.report.cpuid
        if cpuid is not None and (product := product_of_cpuid(cpuid.family, cpuid.model)) is not None:
            return product
        leaf = _signer(report, (*self._endorsements.read(), *_from_host(certificate_table)))
        if leaf is None:
            raise CollectionFailed(
                "SEV-SNP: expected the chip's product line in the report or in its key's certificate, found neither; "
                "put the VCEK certificate into the folder of endorsements"
            )
        return EndorsementKey.parse(load_certificate(leaf, "VCEK")).product


def _parsed(report: bytes) -> SignedReport:
    try:
        return SignedReport.parse(report)
    except EvidenceMalformed as error:
        raise CollectionFailed(f"SEV-SNP: expected a report, found a malformed one ({error})") from error


def _from_host(certificate_table: bytes) -> tuple[bytes, ...]:
    """What of a host's table can serve; nothing of one that is no table. What is missing, the other side will say."""
    try:
        return CertTable.parse(certificate_table).endorsements()
    except EvidenceMalformed:
        return ()


def _is_list(data: bytes) -> bool:
    try:
        RevocationList.parse(data, "list")
    except EvidenceMalformed:
        return False
    return True


def _is_leaf(data: bytes) -> bool:
    try:
        return kind_of(load_certificate(data, "certificate")) is not None
    except EvidenceMalformed:
        return False


def _signer(report: SignedReport, candidates: Sequence[bytes]) -> bytes | None:
    """The certificate whose key signed this report: keys change with the firmware, and old certificates lie about."""
    signature = encode_dss_signature(int.from_bytes(report.r, "little"), int.from_bytes(report.s, "little"))
    for candidate in candidates:
        try:
            key = EndorsementKey.parse(load_certificate(candidate, "certificate"))
            key.public_key.verify(signature, report.signed, ec.ECDSA(SHA384()))
        except (EvidenceMalformed, InvalidSignature):
            continue
        return candidate
    return None
