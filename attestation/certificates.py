"""X.509 certificates of any family: loaded strictly, and named in words.

Trusts nothing: a certificate that loads is still to be verified.
"""

import warnings
from threading import Lock
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attestation.errors import EvidenceMalformed

# What loading and reading a hostile certificate can raise.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_FILTERS = Lock()


def load_certificate(der: bytes, field: str) -> x509.Certificate:
    """Parse one DER certificate without trailing bytes; raises `EvidenceMalformed` naming `field`.

    All VCEK and VLEK certificates have the serial number 0, of which the library warns, as it does of odd names:
    silenced here and nowhere else. What is read lazily is read here once, so that what is returned is readable.
    """
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject, certificate.issuer, certificate.extensions
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE as error:
        raise EvidenceMalformed(field, expected="a DER X.509 certificate", found=type(error).__name__) from error
    return certificate


def subject(certificate: x509.Certificate) -> str:
    """A certificate's subject in words, for messages."""
    return _printable(certificate.subject)


def issuer(certificate: x509.Certificate) -> str:
    """A certificate's issuer in words, for messages."""
    return _printable(certificate.issuer)


def _printable(name: x509.Name) -> str:
    return ascii(name.rfc4514_string())[1:-1][:120]
