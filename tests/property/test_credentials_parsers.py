"""Whatever bytes come as a certificate or a key, only the parsers' own errors come out."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.credentials import (
    CertificateAuthority,
    check_credential,
    check_credential_key,
    new_credential_key,
    pem_of,
    spiffe_id_of,
)
from protocol.errors import MalformedError, SignatureError

NOW = 1_800_000_000
AUTHORITY = CertificateAuthority.create("authority", NOW)
KEY = new_credential_key()
CREDENTIAL = AUTHORITY.issue(KEY.spki_der, "spiffe://digits/silo/north", NOW, NOW + 3600)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.sampled_from([None, draw(st.integers(0, len(data)))]))
    return bytes(data[:cut]) + draw(st.sampled_from([b"", b"\0"]))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=64), mutations(CREDENTIAL)))
def test_certificates(data: bytes) -> None:
    for parser in (spiffe_id_of, pem_of):
        with suppress(MalformedError):
            parser(data)
    try:
        assert check_credential(data, AUTHORITY.certificate_der, NOW) == "spiffe://digits/silo/north"
    except (MalformedError, SignatureError):
        pass
    else:
        # What still verifies is what was signed: only the signature's own encoding may differ.
        assert data[:300] == CREDENTIAL[:300]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=64), mutations(KEY.spki_der)))
def test_keys(data: bytes) -> None:
    with suppress(MalformedError):
        check_credential_key(data)


@pytest.mark.parametrize("size", [0, 8193, 2**20])
def test_a_certificate_of_impossible_size_is_not_parsed(size: int) -> None:
    with pytest.raises(MalformedError, match="8192"):
        spiffe_id_of(bytes(size))
