"""Parsers of tokens: one spelling each, and nothing but the package's own errors, whatever a signer signs."""

import base64
import contextlib
import json
from typing import Any

from attestation_cases.azure_maa import CLAIMS
from attestation_cases.azure_maa import good_cases as azure_cases
from attestation_cases.confidential_space import good_cases as google_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_tokens import GOOGLE, NOW, TDX, google_claims, jwk, key_set, maa_token, oidc_token, service_key

from attestation.appraisal import judge
from attestation.errors import AttestationError, EvidenceMalformed
from attestation.families import FAMILIES
from attestation.tee import Tee
from attestation.token.jwks import select_key
from attestation.token.jws import Jws, decode_base64, decode_base64url, encode_base64url

REPORTS = [case.evidence.report for case in (*google_cases(), *azure_cases())]
FAMILY = FAMILIES[Tee.AZURE_MAA]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(...),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(REPORTS)))
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def paths(claims: dict[str, Any], above: str = "") -> list[str]:
    inner = [
        path for name, value in claims.items() if isinstance(value, dict) for path in paths(value, f"{above}{name}/")
    ]
    return [above + name for name in claims] + inner


GOOGLE_CLAIMS = google_claims(**TDX)
AZURE_CLAIMS = {name: claims() for name, claims in CLAIMS.items()}


def without_ellipsis(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda _: None))


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=200), mutated()))
def test_a_token_parses_to_itself_or_is_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert Jws.parse(data).encode() == data
    for family in (GOOGLE, FAMILY):
        family.recognises(data)
        with contextlib.suppress(EvidenceMalformed):
            family.describe(data)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(paths(GOOGLE_CLAIMS)), VALUES)
def test_google_may_sign_anything(path: str, value: Any) -> None:
    evidence = oidc_token(google_claims(**{**TDX, path: ... if value is ... else without_ellipsis(value)}))
    with contextlib.suppress(AttestationError):
        GOOGLE.describe(evidence.report)
        judge(evidence, [GOOGLE.reference(evidence)], None, NOW)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(AZURE_CLAIMS)), st.data())
def test_microsoft_may_sign_anything(kind: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(AZURE_CLAIMS[kind])))
    value = data.draw(VALUES)
    evidence = maa_token(CLAIMS[kind](**{path: ... if value is ... else without_ellipsis(value)}))
    with contextlib.suppress(AttestationError):
        FAMILY.describe(evidence.report)
        judge(evidence, [FAMILY.reference(evidence)], None, NOW)


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=200), st.builds(key_set, st.dictionaries(
    st.sampled_from(("kty", "kid", "use", "alg", "n", "e", "x5c", "x")), VALUES.map(without_ellipsis), max_size=6,
).map(lambda changes: jwk(service_key(), **changes)))))  # fmt: skip
def test_a_key_set_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(AttestationError):
        select_key((data,), "test-key-1")


@given(st.binary(min_size=1, max_size=80))
def test_base64_has_one_spelling(data: bytes) -> None:
    assert decode_base64url(encode_base64url(data), "f") == data
    assert decode_base64(base64.b64encode(data).decode(), "f") == data


@given(st.one_of(st.binary(max_size=12), st.text("ABCDwxyz0189-_+/=\n ", max_size=12).map(str.encode)))
def test_other_spellings_of_base64_are_malformed(text: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert encode_base64url(decode_base64url(text, "f")) == text
    with contextlib.suppress(EvidenceMalformed):
        decoded = decode_base64(text.decode("latin-1"), "f")
        assert base64.b64encode(decoded) == text
