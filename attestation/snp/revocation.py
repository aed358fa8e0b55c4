"""Revocation lists of AMD's roots: which intermediates (ASK, ASVK) were withdrawn.

A list says nothing about chips' and providers' keys: their certificates all carry the serial number 0, and another
key, the intermediate, issues them. A withdrawn one is noticed by the minimum TCB alone.

Trusts nothing: a list that parses is still to be verified. Source: AMD 57230 (KDS, `/vcek/v1/{product}/crl` and
`/vlek/v1/{product}/crl`); RFC 5280 section 5.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from attestation.certificates import UNREADABLE, quietly, subject, written
from attestation.checklist import Checklist
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic, EvidenceWithdrawn
from attestation.snp.roots import Chain
from attestation.snp.signatures import verify_list

_PARTIAL = (ExtensionOID.DELTA_CRL_INDICATOR, ExtensionOID.ISSUING_DISTRIBUTION_POINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """One list. `field` names where it stood; `serials` are all that it lists, for whatever reason."""

    field: str
    this_update: datetime
    next_update: datetime | None
    serials: frozenset[int]
    crl: x509.CertificateRevocationList

    @classmethod
    def parse(cls, der: bytes, field: str) -> "RevocationList":
        """Read one DER list without trailing bytes; raises `EvidenceMalformed` naming `field`.

        A list that covers only part of what its issuer issued (delta, distribution point) or whose meaning hangs on an
        extension that we don't know is refused: what it leaves out would look as if it were good.
        """
        try:
            with quietly():
                crl = x509.load_der_x509_crl(der)
                _ = crl.issuer, crl.signature_algorithm_oid
                extensions = list(crl.extensions)
                entries = [(entry.serial_number, list(entry.extensions)) for entry in crl]
                this_update, next_update = crl.last_update_utc, crl.next_update_utc
        except UNREADABLE as error:
            raise EvidenceMalformed(field, expected="a DER revocation list", found=type(error).__name__) from error
        for extension in (*extensions, *(item for _, items in entries for item in items)):
            if extension.critical or extension.oid in _PARTIAL:
                oid = extension.oid.dotted_string
                raise EvidenceMalformed(f"{field} extension", expected="none critical or of a partial list", found=oid)
        return cls(
            field=field,
            this_update=this_update,
            next_update=next_update,
            serials=frozenset(serial for serial, _ in entries),
            crl=crl,
        )

    def is_current(self, now: datetime) -> bool:
        """Whether it says of itself that it is of this time."""
        return self.next_update is not None and self.this_update <= now <= self.next_update


def check_lists(checks: Checklist, number: int, lists: tuple[RevocationList, ...], chain: Chain, now: datetime) -> None:
    """Each list is the root's own, fresh at `now`, and lists no certificate of the chain; `checks` raises."""
    for revoked in lists:
        root, found = subject(chain.ark), written(revoked.crl.issuer)
        checks.require(revoked.crl.issuer == chain.ark.subject, number, f"issuer of {revoked.field}", root, found)
        verify_list(revoked.crl, chain.ark, f"signature of {revoked.field}")
        if revoked.next_update is None:
            raise EvidenceNotAuthentic(
                f"validity of {revoked.field}", expected="a time of the next update", found="none: it never expires"
            )
        checks.require(
            revoked.this_update <= now <= revoked.next_update,
            number,
            f"validity of {revoked.field}",
            f"a time from {revoked.this_update.isoformat()} to {revoked.next_update.isoformat()}",
            now.isoformat(),
        )
        for certificate in (chain.ark, chain.intermediate):
            serial = certificate.serial_number
            name = f"revocation of {subject(certificate)}"
            expected, found = f"serial number {serial:#x} not among the revoked", f"{len(revoked.serials)} revoked"
            if serial in revoked.serials:
                error = EvidenceWithdrawn(name, expected=expected, found=f"{found}, {serial:#x} among them")
                raise checks.failed(error, number)
            checks.passed(number, name, expected, found)
