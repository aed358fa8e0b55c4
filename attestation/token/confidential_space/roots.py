"""The root of trust of PKI tokens: Google's Confidential Space root certificate, pinned by digest.

Source: `google/SOURCES.md`. Tokens under a published key (OIDC) have no root here: the reference values pin the key.
"""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceUncheckable

ROOT_SHA256: Final = "148b293821bb0c6a317f413c8ba475814091cb22d49b9e3c94198db8e8f86c39"
"""SHA-256 of the DER form."""


@cache
def google_root() -> x509.Certificate:
    """The root. Raises `EvidenceUncheckable` if the installed one is not the pinned one."""
    data = files("attestation.token.confidential_space").joinpath("google", "root.pem").read_bytes()
    root = x509.load_pem_x509_certificate(data)
    digest = sha256(root.public_bytes(Encoding.DER)).hexdigest()
    if digest != ROOT_SHA256:
        raise EvidenceUncheckable("Confidential Space root", expected=f"sha256 {ROOT_SHA256}", found=digest)
    return root
