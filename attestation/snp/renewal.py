"""The same report, with the revocation lists of another day beside its signing key's certificate.

Trusts nothing: the lists are chosen by the issuer that they name, and are still to be verified (`authenticate`).
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.certificates import subject
from attestation.errors import EvidenceMalformed, EvidenceUncheckable
from attestation.evidence import Evidence
from attestation.snp.authenticate import chain_of
from attestation.snp.endorsements import Endorsements
from attestation.snp.revocation import RevocationList
from attestation.snp.roots import RootSet


def renewed(evidence: Evidence, endorsements: Sequence[bytes], roots: RootSet, now: datetime) -> Evidence:
    """As `attestation.family.Family` says. Whatever else came with it, ARK and ASK for instance, ships with us."""
    key = Endorsements.parse(evidence.endorsements).key()
    root = chain_of(key, roots).ark
    lists = [(der, found) for der in dict.fromkeys(endorsements) if (found := _list_in(der)) is not None]
    of_root = [(der, found) for der, found in lists if found.crl.issuer == root.subject]
    if not of_root:
        others = f"{len(lists)} of others" if lists else "none"
        raise EvidenceUncheckable("revocation", expected=f"a revocation list of {subject(root)}", found=others)
    current = [der for der, found in of_root if found.is_current(now)]
    chosen = current or [der for der, _ in of_root]
    leaf = key.certificate.public_bytes(Encoding.DER)
    return Evidence(tee=evidence.tee, report=evidence.report, endorsements=(leaf, *chosen))


def _list_in(der: bytes) -> RevocationList | None:
    try:
        return RevocationList.parse(der, "endorsement")
    except EvidenceMalformed:
        return None
