"""The middle floor: who signed this document? From a parsed envelope to a document that AWS's root vouches for.

Trusts the root that it is given and nothing in the document. Whether the document says what anybody wants is the next
floor's affair (`appraise`).

The checklist, by the numbers above each block:

 1. nothing came beside the document, which brings its own chain;
 2. the chain's first certificate is the pinned root, byte for byte;
 3. each certificate may issue the next and did: names, ECDSA P-384 with SHA-384, critical basicConstraints, path
    length, keyUsage;
 4. all are valid at `now`;
 5. the envelope's ECDSA signature (P-384, SHA-384) verifies under the lowest certificate's key.

Revocation is left to the certificates' three hours, as AWS says. Sources: aws-nitro-enclaves-nsm-api
docs/attestation_process.md section 3.2; RFC 9052 section 4.4.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from attestation.certificates import load_certificate, subject
from attestation.chain import P384_SHA384, key_of, require_dates, require_root, verify_links
from attestation.check import Check
from attestation.checklist import Checklist
from attestation.errors import EvidenceNotAuthentic
from attestation.nitro.cose import CoseSign1
from attestation.nitro.document import AttestationDocument

_SCALAR_BYTES: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticDocument:
    """A document whose signature a pinned root vouches for at `now`. Made by `authenticate` only."""

    document: AttestationDocument
    now: datetime
    checks: tuple[Check, ...]


def authenticate(
    envelope: CoseSign1, endorsements: tuple[bytes, ...], root: x509.Certificate, now: datetime
) -> AuthenticDocument:
    """Verify a document's signature and its chain up to `root`, at the aware time `now`.

    Raises `EvidenceMalformed` for an unreadable document or certificate, `EvidenceNotAuthentic` for whatever does not
    verify, and for endorsements.
    """
    checks = Checklist(EvidenceNotAuthentic)
    document = AttestationDocument.parse(envelope.payload)

    # 1. no endorsements
    checks.require(not endorsements, 1, "endorsements", "none: the document brings its chain", str(len(endorsements)))

    chain = _chain(document)
    # 2. the pinned root
    with checks.line(2):
        require_root(chain, root)
    checks.passed(2, "root", "the pinned one", subject(root))

    # 3. the chain
    with checks.line(3):
        verify_links(chain, P384_SHA384)
    checks.passed(3, "chain", "ECDSA P-384 SHA-384 signatures from the pinned root on", f"{len(chain)} certificates")

    # 4. dates
    require_dates(checks, 4, chain, now)

    # 5. the document's signature
    with checks.line(5):
        _verify(envelope, chain[0])
    checks.passed(5, "signature", "ES384 under the lowest certificate's key", "verified")
    return AuthenticDocument(document=document, now=now, checks=checks.made())


def _chain(document: AttestationDocument) -> tuple[x509.Certificate, ...]:
    """The signer's certificate first, the root last: the other way round than `cabundle`."""
    bundle = [load_certificate(der, f"cabundle[{index}]") for index, der in enumerate(document.cabundle)]
    return (load_certificate(document.certificate, "certificate"), *reversed(bundle))


def _verify(envelope: CoseSign1, signer: x509.Certificate) -> None:
    key = key_of(signer, P384_SHA384)
    r = int.from_bytes(envelope.signature[:_SCALAR_BYTES])
    s = int.from_bytes(envelope.signature[_SCALAR_BYTES:])
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(encode_dss_signature(r, s), envelope.signed_bytes(), ec.ECDSA(SHA384()))
            return
    except InvalidSignature:
        pass
    raise EvidenceNotAuthentic("signature", expected=f"one by {subject(signer)}", found="does not verify")
