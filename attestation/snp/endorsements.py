"""What came along with a report, told apart by its bytes: certificates, revocation lists, a host's certificate table.

Nothing of it is trusted, and nothing of it is passed over in silence: what is neither a signing key's certificate nor a
list nor one of the certificates that we ship is refused by name. A host's table is the exception, as its guests don't
choose what stands there: its ASK, ARK and entries that only a vendor knows are set aside, and named in the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from attestation.certificates import load_certificate, subject
from attestation.errors import EvidenceMalformed, EvidenceNotAuthentic, EvidenceUncheckable
from attestation.snp.cert_table import CertTable
from attestation.snp.certificates import EndorsementKey, kind_of
from attestation.snp.revocation import RevocationList
from attestation.snp.roots import RootSet

MAXIMUM_ENDORSEMENT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """Sorted, unverified. `others` are certificates of no signing key, with the place where each stood."""

    leaves: tuple[x509.Certificate, ...]
    lists: tuple[RevocationList, ...]
    others: tuple[tuple[str, x509.Certificate], ...]
    set_aside: tuple[str, ...]

    @classmethod
    def parse(cls, endorsements: Sequence[bytes]) -> "Endorsements":
        """Read endorsements of at most 64 KiB each, in any order; raises `EvidenceMalformed` naming the one."""
        leaves: list[x509.Certificate] = []
        lists: list[RevocationList] = []
        others: list[tuple[str, x509.Certificate]] = []
        set_aside: list[str] = []
        for index, data in enumerate(endorsements):
            place = f"endorsement {index}"
            for field, item in _items(data, place, set_aside):
                read = _read(item, field)
                if isinstance(read, RevocationList):
                    lists.append(read)
                elif kind_of(read) is not None:
                    leaves.append(read)
                else:
                    others.append((field, read))
        return cls(leaves=tuple(leaves), lists=tuple(lists), others=tuple(others), set_aside=tuple(set_aside))

    def require_shipped(self, roots: RootSet) -> None:
        """Raise `EvidenceNotAuthentic` for a certificate that is neither a signing key's nor one of ours.

        A peer's own ASK or ARK proves nothing; to pass over it would look as if it did.
        """
        shipped = {certificate for chain in roots.chains for certificate in (chain.ark, chain.intermediate)}
        for field, certificate in self.others:
            if certificate not in shipped:
                raise EvidenceNotAuthentic(
                    field,
                    expected="a VCEK or VLEK certificate, or one of the pinned ones",
                    found=subject(certificate),
                )

    def key(self) -> EndorsementKey:
        """The one signing key; raises `EvidenceUncheckable` if there is none, `EvidenceMalformed` for several."""
        if not self.leaves:
            raise EvidenceUncheckable("endorsements", expected="a VCEK or VLEK certificate", found="none")
        if len(self.leaves) > 1:
            raise EvidenceMalformed(
                "endorsements", expected="one VCEK or VLEK certificate", found=str(len(self.leaves))
            )
        return EndorsementKey.parse(self.leaves[0])


def _items(data: bytes, place: str, set_aside: list[str]) -> list[tuple[str, bytes]]:
    """The DER objects in one endorsement; names of what a host's table holds besides go to `set_aside`."""
    if len(data) > MAXIMUM_ENDORSEMENT_BYTES:
        raise EvidenceMalformed(place, expected=f"at most {MAXIMUM_ENDORSEMENT_BYTES} bytes", found=str(len(data)))
    try:
        table = CertTable.parse(data)
    except EvidenceMalformed:
        return [(place, data)]
    if not table.entries:
        raise EvidenceMalformed(place, expected="an endorsement", found="an empty certificate table")
    set_aside += [entry.name for entry in table.entries if not entry.useful]
    return [(f"{place} ({entry.name})", entry.data) for entry in table.entries if entry.useful]


def _read(data: bytes, field: str) -> x509.Certificate | RevocationList:
    try:
        return load_certificate(data, field)
    except EvidenceMalformed as not_a_certificate:
        try:
            return RevocationList.parse(data, field)
        except EvidenceMalformed as not_a_list:
            # A list that is one, and can't be used, says what is wrong with it.
            if not_a_list.field != field:
                raise
            raise EvidenceMalformed(
                field, expected="a certificate, revocation list or certificate table", found=not_a_certificate.found
            ) from not_a_certificate
