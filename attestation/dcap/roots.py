"""The root of trust: Intel's SGX root certificate, pinned by digest. It ships with this package. Source: `intel/`."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.errors import EvidenceUncheckable

INTEL_ROOT_SHA256: Final = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
"""SHA-256 of the DER form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The one certificate that may vouch for quotes and collateral."""

    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """Its DER form."""
        return self.certificate.public_bytes(Encoding.DER)


@cache
def intel_root() -> Root:
    """Intel's root. Raises `EvidenceUncheckable` if the installed one is not the pinned one."""
    der = files("attestation.dcap").joinpath("intel", "intel_sgx_root_ca.der").read_bytes()
    digest = sha256(der).hexdigest()
    if digest != INTEL_ROOT_SHA256:
        raise EvidenceUncheckable("Intel SGX root", expected=f"sha256 {INTEL_ROOT_SHA256}", found=digest)
    return Root(certificate=x509.load_der_x509_certificate(der))
