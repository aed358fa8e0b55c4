"""X.509 certificates of any family: loaded strictly, and named in words.

Trusts nothing: a certificate that loads is still to be verified.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from attestation.errors import EvidenceMalformed

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What loading and reading a hostile certificate or revocation list can raise."""
_FILTERS = Lock()


def load_certificate(der: bytes, field: str) -> x509.Certificate:
    """Parse one DER certificate without trailing bytes; raises `EvidenceMalformed` naming `field`.

    What is read lazily is read here once, so that what is returned is readable.
    """
    try:
        with quietly():
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject, certificate.issuer, certificate.extensions
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE as error:
        raise EvidenceMalformed(field, expected="a DER X.509 certificate", found=type(error).__name__) from error
    return certificate


@contextmanager
def quietly() -> Iterator[None]:
    """Read certificates and revocation lists without the library's warnings.

    All VCEK and VLEK certificates have the serial number 0, of which it warns, as it does of odd names: silenced here
    and nowhere else.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def subject(certificate: x509.Certificate) -> str:
    """A certificate's subject in words, for messages."""
    return written(certificate.subject)


def issuer(certificate: x509.Certificate) -> str:
    """A certificate's issuer in words, for messages."""
    return written(certificate.issuer)


def written(name: x509.Name) -> str:
    """A name in words, for messages."""
    return ascii(name.rfc4514_string())[1:-1][:120]
