"""The root of trust: the AWS Nitro attestation PKI's root certificate, pinned by digest. Source: `aws/SOURCES.md`."""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceUncheckable

ROOT_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
"""SHA-256 of the DER form."""


@cache
def aws_root() -> x509.Certificate:
    """The root. Raises `EvidenceUncheckable` if the installed one is not the pinned one."""
    root = x509.load_pem_x509_certificate(files("attestation.nitro").joinpath("aws", "root_g1.pem").read_bytes())
    digest = sha256(root.public_bytes(Encoding.DER)).hexdigest()
    if digest != ROOT_SHA256:
        raise EvidenceUncheckable("AWS Nitro root", expected=f"sha256 {ROOT_SHA256}", found=digest)
    return root
