"""Certificates that a hostile silo may put beside its report: whatever is in them, they are refused as malformed."""

import pytest
from odd_certificates import (
    EDI_PARTY_NAME,
    ISSUER_ALTERNATIVE_NAME,
    SUBJECT_ALTERNATIVE_NAME,
    X400_ADDRESS,
    certificate_named,
    certificate_over,
    finite_field_key,
)

from attestation.certificates import load_certificate
from attestation.errors import EvidenceMalformed
from attestation.snp.certificates import EndorsementKey
from protocol.credentials import check_credential_key, new_credential_key
from protocol.errors import MalformedError


@pytest.mark.parametrize("oid", [SUBJECT_ALTERNATIVE_NAME, ISSUER_ALTERNATIVE_NAME])
@pytest.mark.parametrize("kind", [X400_ADDRESS, EDI_PARTY_NAME])
def test_a_kind_of_name_that_the_library_does_not_read(oid: str, kind: int) -> None:
    with pytest.raises(EvidenceMalformed, match=r"endorsement 0: expected a DER X\.509 certificate"):
        load_certificate(certificate_named(oid, kind), "endorsement 0")


def test_a_key_of_another_algorithm_is_refused_before_it_is_loaded() -> None:
    """Loading one can take half a minute, in which nothing else of the process runs."""
    certificate = load_certificate(certificate_over(finite_field_key()), "endorsement 0")
    with pytest.raises(EvidenceMalformed, match=r"VCEK certificate key: expected P-384, found 1\.2\.840\.10046\.2\.1"):
        EndorsementKey.parse(certificate)


def test_so_is_a_credential_key() -> None:
    key = new_credential_key().spki_der
    check_credential_key(key)
    for other in (finite_field_key(), key[:-1], key + b"\0", b"", key[:26] + b"\2" + key[27:]):
        with pytest.raises(MalformedError, match="expected the 91 bytes of a P-256 SubjectPublicKeyInfo"):
            check_credential_key(other)
