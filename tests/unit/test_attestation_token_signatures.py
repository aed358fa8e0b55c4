"""What every token has in common: one spelling, one algorithm, a key that is pinned, dates, a nonce."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from case_names import named
from certificate_builder import NOT_AFTER, issue
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from synthetic_keys import rsa_key
from synthetic_tokens import (
    GOOGLE,
    KID,
    MAA_ISSUER,
    NOW,
    REPORT_DATA,
    SECONDS,
    encoded,
    google_chain,
    google_claims,
    jwk,
    key_set,
    maa_token,
    oidc_token,
    pinned,
    pki_token,
    sev_snp_vm,
    signed,
    x5c,
)

from attestation import (
    AttestationError,
    Evidence,
    EvidenceMalformed,
    EvidenceNotAuthentic,
    EvidenceRefused,
    EvidenceUncheckable,
    Tee,
)
from attestation.checklist import Checklist
from attestation.encoding import labelled
from attestation.families import FAMILIES
from attestation.token.claim_set import parse_object
from attestation.token.jwks import select_key, thumbprint
from attestation.token.jws import Jws, decode_base64url, encode_base64url
from attestation.token.nonce import require_nonce, token_nonce

MAA = FAMILIES[Tee.AZURE_MAA]
# RFC 7638 section 3.1.
RFC_7638_N = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
    "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha"
    "jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)
RFC_7638_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def authenticated(evidence: Evidence) -> object:
    family = GOOGLE if evidence.tee is Tee.CONFIDENTIAL_SPACE else MAA
    return family.authenticate(evidence, NOW)


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    key = rsa.RSAPublicNumbers(e=65537, n=int.from_bytes(decode_base64url(RFC_7638_N.encode(), "n"))).public_key()
    assert encode_base64url(thumbprint(key)).decode() == RFC_7638_THUMBPRINT


@pytest.mark.parametrize("evidence", [pki_token(), oidc_token(), maa_token(sev_snp_vm())], ids=["pki", "oidc", "maa"])
def test_good_tokens_are_authentic(evidence: Evidence) -> None:
    authenticated(evidence)


GOOD = oidc_token().report
HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "token"),
        (b"..", "header"),
        (HEADER + b"." + PAYLOAD, "token"),
        (GOOD + b".", "token"),
        (GOOD + b"\n", "signature"),
        (b" " + GOOD, "header"),
        (GOOD + b"=", "signature"),
        (HEADER + b"=." + PAYLOAD + b"." + SIGNATURE, "header"),
        (HEADER + b"." + PAYLOAD + b".", "signature"),
        (HEADER[:-2] + b"+/." + PAYLOAD + b"." + SIGNATURE, "header"),
        (HEADER + b"." + PAYLOAD + b"." + SIGNATURE[:-1] + (b"B" if SIGNATURE[-1:] != b"B" else b"C"), "signature"),
        (encoded(b"[]") + b"." + PAYLOAD + b"." + SIGNATURE, "header"),
        (encoded(b'{"alg":"RS256","alg":"none"}') + b"." + PAYLOAD + b"." + SIGNATURE, "header"),
        (HEADER + b"." + encoded(b'{"aud":"a","aud":"b"}') + b"." + SIGNATURE, "payload"),
        (HEADER + b"." + encoded(b'{"submods":{"a":1,"a":1}}') + b"." + SIGNATURE, "payload"),
        (HEADER + b"." + encoded(b'{"a":NaN}') + b"." + SIGNATURE, "payload"),
        (HEADER + b"." + encoded(b'{"a":-Infinity}') + b"." + SIGNATURE, "payload"),
        (HEADER + b"." + encoded(b'{"a":"\xff"}') + b"." + SIGNATURE, "payload"),
        (HEADER + b"." + encoded(b'{"a":' + b"9" * 5000 + b"}") + b"." + SIGNATURE, "payload"),
        (HEADER + b"." + encoded(b'{"a":' + b"[" * 40000) + b"." + SIGNATURE, "payload"),
        (bytes(66000), "token"),
    ],
)
def test_a_token_in_another_form_is_malformed(data: bytes, field: str) -> None:
    with pytest.raises(EvidenceMalformed) as refused:
        Jws.parse(data)
    assert refused.value.field == field


@pytest.mark.parametrize("make", [pki_token, oidc_token, lambda **header: maa_token(sev_snp_vm(), **header)])
@pytest.mark.parametrize(
    ("header", "field"),
    [
        ({"alg": "none"}, "alg"),
        ({"alg": "HS256"}, "alg"),
        ({"alg": "RS512"}, "alg"),
        ({"alg": "PS256"}, "alg"),
        ({"alg": "ES256"}, "alg"),
        ({"alg": "rs256"}, "alg"),
        ({"alg": ["RS256"]}, "alg"),
        ({"alg": ...}, "alg"),
        ({"typ": "at+jwt"}, "typ"),
        ({"typ": ...}, "typ"),
        ({"crit": ["exp"]}, "header"),
        ({"crit": [], "b64": False}, "header"),
        ({"jwk": jwk(rsa_key("service"))}, "header"),
        ({"x5u": "https://example.org"}, "header"),
        ({"zip": "DEF"}, "header"),
    ],
    ids=named,
)
def test_a_header_that_asks_for_anything_else_is_refused(make: Any, header: Mapping[str, Any], field: str) -> None:
    """The signature is right each time."""
    with pytest.raises(EvidenceNotAuthentic) as refused:
        authenticated(make(**header))
    assert refused.value.field == field
    assert refused.value.number == 1


def test_a_jku_is_the_issuers_own_and_googles_have_none() -> None:
    authenticated(maa_token(sev_snp_vm(), jku=...))
    for jku in ("https://example.org/certs", f"{MAA_ISSUER}/certs/", f"{MAA_ISSUER}.example.org/certs"):
        with pytest.raises(EvidenceNotAuthentic, match="^jku: expected the issuer's own"):
            authenticated(maa_token(sev_snp_vm(), jku=jku))
    with pytest.raises(EvidenceNotAuthentic, match="^header: .*found 'jku'"):
        authenticated(oidc_token(jku="https://example.org"))
    with pytest.raises(EvidenceNotAuthentic, match="^header: .*found 'x5c'"):
        authenticated(maa_token(sev_snp_vm(), x5c=x5c(*google_chain())))


@pytest.mark.parametrize(
    ("endorsements", "error", "field"),
    [
        ((), EvidenceUncheckable, "endorsements"),
        ((b"",), EvidenceMalformed, "endorsement 0"),
        ((google_chain()[0].der,), EvidenceMalformed, "endorsement 0"),
        ((key_set(jwk(rsa_key("service"))), b"0\x03\2\1\1"), EvidenceMalformed, "endorsement 1"),
        ((key_set(jwk(rsa_key("service"))),) * 2, EvidenceMalformed, "endorsements"),
        ((b"{}",), EvidenceMalformed, "endorsement 0.keys"),
        ((b'{"keys":[]}',), EvidenceMalformed, "endorsement 0.keys"),
        ((b'{"keys":[1]}',), EvidenceMalformed, "endorsement 0.keys"),
        ((b'{"keys":[],"keys":[]}',), EvidenceMalformed, "endorsement 0"),
        ((b"{" + b" " * 140000,), EvidenceMalformed, "endorsement 0"),
        ((key_set(jwk(rsa_key("service"), kid="another")),), EvidenceUncheckable, "kid"),
        ((key_set(jwk(rsa_key("service")), jwk(rsa_key("google leaf"))),), EvidenceMalformed, "kid"),
        ((key_set(jwk(rsa_key("google leaf"))),), EvidenceNotAuthentic, "signature"),
        ((key_set(jwk(rsa_key("service"), kty="EC")),), EvidenceNotAuthentic, "endorsement 0.keys[0].kty"),
        ((key_set(jwk(rsa_key("service"), kty="oct", k="AAAA")),), EvidenceNotAuthentic, "endorsement 0.keys[0].kty"),
        ((key_set(jwk(rsa_key("service"), use="enc")),), EvidenceNotAuthentic, "endorsement 0.keys[0].use"),
        ((key_set(jwk(rsa_key("service"), alg="RS512")),), EvidenceNotAuthentic, "endorsement 0.keys[0].alg"),
        ((key_set(jwk(rsa_key("service"), e="Aw")),), EvidenceNotAuthentic, "endorsement 0.keys[0].n"),
        ((key_set(jwk(rsa_key("short", bits=1024))),), EvidenceNotAuthentic, "endorsement 0.keys[0].n"),
        ((key_set(jwk(rsa_key("service"), n="A" * 8000)),), EvidenceNotAuthentic, "endorsement 0.keys[0].n"),
        ((key_set(jwk(rsa_key("service"), n="A=")),), EvidenceMalformed, "endorsement 0.keys[0].n"),
        ((key_set({"kid": KID, "kty": "RSA"}),), EvidenceMalformed, "endorsement 0.keys[0].n"),
        ((key_set(jwk(rsa_key("service"), x5c=["AAAA"])),), EvidenceMalformed, "endorsement 0.keys[0].x5c"),
    ],
    ids=named,
)
@pytest.mark.parametrize("good", [oidc_token(), maa_token(sev_snp_vm())], ids=["oidc", "maa"])
def test_a_key_set_that_does_not_vouch_is_refused(
    good: Evidence, endorsements: tuple[bytes, ...], error: type[AttestationError], field: str
) -> None:
    with pytest.raises(error) as refused:
        authenticated(replace(good, endorsements=endorsements))
    assert type(refused.value) is error
    assert refused.value.field == field
    assert refused.value.number in (2, 3, 5)


def certified(key: Any, **dates: Any) -> str:
    return base64.b64encode(issue("https://issuer.example", key, **dates).der).decode()


def test_a_key_set_may_hold_certificates_instead_of_numbers() -> None:
    key, good = rsa_key("service"), oidc_token()
    bare = {"kid": KID, "kty": "RSA", "x5c": [certified(key)]}
    found = select_key((key_set(bare),), KID)
    assert found is not None
    assert (found.thumbprint,) == pinned()
    authenticated(replace(good, endorsements=(key_set(bare),)))
    authenticated(replace(good, endorsements=(key_set(jwk(key, x5c=[certified(key)])),)))
    with pytest.raises(EvidenceMalformed, match="x5c: expected the key that n and e say"):
        authenticated(replace(good, endorsements=(key_set(jwk(key, x5c=[certified(rsa_key("google leaf"))])),)))
    strange = certified(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(EvidenceNotAuthentic, match="expected RSA"):
        authenticated(replace(good, endorsements=(key_set({**bare, "x5c": [strange]}),)))
    expired = certified(key, not_after=NOW - timedelta(days=1))
    with pytest.raises(EvidenceNotAuthentic, match="^validity of CN=https://issuer.example") as refused:
        authenticated(replace(good, endorsements=(key_set({**bare, "x5c": [expired]}),)))
    assert refused.value.number == 4


def test_a_pki_token_brings_its_chain_and_nothing_else() -> None:
    leaf, intermediate, root = google_chain()
    twin = issue("test root", rsa_key("google root"))
    ours = "O=Strongroom tests"
    for chain, error, field in (
        ((leaf,), EvidenceNotAuthentic, "root"),
        ((leaf, intermediate), EvidenceNotAuthentic, "root"),
        ((leaf, intermediate, twin), EvidenceNotAuthentic, "root"),
        ((root, intermediate, leaf), EvidenceNotAuthentic, "root"),
        ((root,), EvidenceNotAuthentic, f"extensions of CN=test root,{ours}"),
        ((leaf, root), EvidenceNotAuthentic, f"signature of CN=test leaf,{ours}"),
        ((leaf, *(intermediate,) * 2, root), EvidenceNotAuthentic, f"signature of CN=test intermediate,{ours}"),
        ((leaf,) * 5 + (root,), EvidenceMalformed, "x5c"),
    ):
        with pytest.raises(error) as refused:
            authenticated(pki_token(x5c=x5c(*chain)))
        assert refused.value.field == field
        assert refused.value.number == 3
    for value, field in (([], "x5c"), ("text", "x5c"), ([1], "x5c"), (["AAA"], "x5c[0]"), ([""], "x5c[0]")):
        with pytest.raises(EvidenceMalformed) as malformed:
            authenticated(pki_token(x5c=value))
        assert malformed.value.field == field
    with pytest.raises(EvidenceNotAuthentic, match="^endorsements: expected none"):
        authenticated(replace(pki_token(), endorsements=(key_set(jwk(rsa_key("service"))),)))
    with pytest.raises(EvidenceNotAuthentic, match="^validity of CN=test root"):
        GOOGLE.authenticate(pki_token(), NOT_AFTER + timedelta(seconds=1))
    forged = signed({"alg": "RS256", "typ": "JWT", "x5c": x5c(*google_chain())}, google_claims(), rsa_key("service"))
    with pytest.raises(EvidenceNotAuthentic, match="^signature:") as refused:
        authenticated(Evidence(tee=Tee.CONFIDENTIAL_SPACE, report=forged, endorsements=()))
    assert refused.value.number == 5


def google(**claims: Any) -> Evidence:
    return oidc_token(google_claims(**claims))


def azure(**claims: Any) -> Evidence:
    return maa_token(sev_snp_vm(**claims))


@pytest.mark.parametrize("make", [google, azure])
@pytest.mark.parametrize(
    ("claims", "error", "field"),
    [
        ({"exp": SECONDS}, EvidenceMalformed, "exp"),
        ({"exp": SECONDS, "iat": SECONDS - 1}, EvidenceNotAuthentic, "exp"),
        ({"exp": ...}, EvidenceMalformed, "exp"),
        ({"exp": str(SECONDS + 60)}, EvidenceMalformed, "exp"),
        ({"exp": SECONDS + 60.5}, EvidenceMalformed, "exp"),
        ({"exp": True}, EvidenceMalformed, "exp"),
        ({"exp": 10**15}, EvidenceMalformed, "exp"),
        ({"nbf": SECONDS + 31}, EvidenceNotAuthentic, "nbf"),
        ({"nbf": ...}, EvidenceMalformed, "nbf"),
        ({"iat": SECONDS + 31}, EvidenceNotAuthentic, "iat"),
        ({"iat": ...}, EvidenceMalformed, "iat"),
        ({"iat": -1}, EvidenceMalformed, "iat"),
        ({"iss": ...}, EvidenceMalformed, "iss"),
    ],
    ids=named,
)
def test_a_tokens_dates_are_whole_and_current(
    make: Any, claims: Mapping[str, Any], error: type[AttestationError], field: str
) -> None:
    if field == "iss" and make(**claims).tee is Tee.AZURE_MAA:
        error, field = EvidenceNotAuthentic, "jku"
    with pytest.raises(error) as refused:
        authenticated(make(**claims))
    assert refused.value.field == field


def test_our_nonce_is_a_digest_in_text() -> None:
    nonce = token_nonce(REPORT_DATA)
    digest = sha256(labelled("strongroom/token-nonce/v1", REPORT_DATA)).digest()
    assert nonce == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert 10 <= len(nonce) <= 74
    assert nonce != token_nonce(REPORT_DATA[:-1])


def test_a_nonce_is_ours_or_the_report_data_itself() -> None:
    ours = token_nonce(REPORT_DATA).encode()
    for nonces in ([ours], [b"another", ours], [REPORT_DATA], [REPORT_DATA.hex().encode()]):
        require_nonce(Checklist(EvidenceRefused), 1, REPORT_DATA, nonces)
    in_capitals = [ours.upper(), REPORT_DATA.hex().upper().encode()]
    for nonces in ([], [b""], [ours[:-1]], [ours + b"="], in_capitals, [REPORT_DATA[:32]]):
        with pytest.raises(EvidenceRefused, match="^report_data:"):
            require_nonce(Checklist(EvidenceRefused), 1, REPORT_DATA, nonces)
    with pytest.raises(EvidenceRefused, match="expected a commitment"):
        require_nonce(Checklist(EvidenceRefused), 1, bytes(64), [bytes(64)])


def test_json_without_duplicates_is_read_as_it_stands() -> None:
    assert parse_object(b' {"a": {"b": 1.5}} ', "payload") == {"a": {"b": 1.5}}
    assert json.dumps(parse_object(b'{"a":[1,null,true]}', "payload")) == '{"a": [1, null, true]}'
