"""Certificates that a hostile silo may put beside its report: whatever is in them, they are refused as malformed."""

import pytest
from odd_certificates import (
    EDI_PARTY_NAME,
    ISSUER_ALTERNATIVE_NAME,
    SUBJECT_ALTERNATIVE_NAME,
    X400_ADDRESS,
    certificate_named,
)

from attestation.errors import EvidenceMalformed
from attestation.snp.certificates import load_certificate


@pytest.mark.parametrize("oid", [SUBJECT_ALTERNATIVE_NAME, ISSUER_ALTERNATIVE_NAME])
@pytest.mark.parametrize("kind", [X400_ADDRESS, EDI_PARTY_NAME])
def test_a_kind_of_name_that_the_library_does_not_read(oid: str, kind: int) -> None:
    with pytest.raises(EvidenceMalformed, match=r"endorsement 0: expected a DER X\.509 certificate"):
        load_certificate(certificate_named(oid, kind), "endorsement 0")
