"""Parsers of Nitro documents: what they read they can write, what they can't read is malformed, and nothing else."""

import contextlib
from typing import Any

import cbor2
from attestation_cases.nitro import good_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import EvidenceMalformed
from attestation.nitro.cbor import decode
from attestation.nitro.cose import CoseSign1
from attestation.nitro.document import AttestationDocument
from attestation.nitro.family import NitroFamily
from attestation.nitro.roots import aws_root

REPORTS = [case.evidence.report for case in good_cases()]
PAYLOADS = [CoseSign1.parse(report).payload for report in REPORTS]
FAMILY = NitroFamily(aws_root)
ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=64) | st.text(max_size=16),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12) | st.integers(), inner, max_size=4)
    ),
    max_leaves=8,
)


def optional(maximum: int, minimum: int = 0) -> st.SearchStrategy[bytes | None]:
    return st.none() | st.binary(min_size=minimum, max_size=maximum)


DOCUMENTS = st.builds(
    AttestationDocument,
    module_id=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    timestamp_ms=st.integers(1, 2**47),
    pcrs=st.dictionaries(st.integers(0, 31), st.binary(min_size=48, max_size=48), min_size=1, max_size=8),
    certificate=st.binary(min_size=1, max_size=1024),
    cabundle=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5).map(tuple),
    public_key=optional(1024, 1),
    user_data=optional(512),
    nonce=optional(512),
)


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        # Half of the changes near the start, where the structure is.
        last = draw(st.sampled_from((60, len(data) - 1)))
        data[draw(st.integers(0, last))] = draw(st.integers(0, 255))
    return bytes(data[: len(data) - draw(st.sampled_from((0, 0, 0, 1, 96)))])


@given(DOCUMENTS)
def test_a_document_round_trips(document: AttestationDocument) -> None:
    assert AttestationDocument.parse(document.encode()) == document


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=96, max_size=96), st.booleans())
def test_an_envelope_round_trips(payload: bytes, signature: bytes, tagged: bool) -> None:
    envelope = CoseSign1(payload=payload, signature=signature, tagged=tagged)
    assert CoseSign1.parse(envelope.encode()) == envelope


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=300), mutated(REPORTS), ITEMS.map(cbor2.dumps)))
def test_an_envelope_parses_to_itself_or_is_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        assert CoseSign1.parse(data).encode() == data


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=300), mutated(PAYLOADS), ITEMS.map(cbor2.dumps)))
def test_a_document_parses_or_is_malformed(data: bytes) -> None:
    with contextlib.suppress(EvidenceMalformed):
        document = AttestationDocument.parse(data)
        assert AttestationDocument.parse(document.encode()) == document


@given(st.integers(0, 2**32), ITEMS)
def test_no_tag_is_read(tag: int, value: Any) -> None:
    data = cbor2.dumps(cbor2.CBORTag(tag, value))
    with contextlib.suppress(EvidenceMalformed):
        raise AssertionError(decode(data, "payload"))


@settings(max_examples=100)
@given(st.one_of(st.binary(max_size=200), mutated(REPORTS)))
def test_a_family_describes_or_finds_malformed(data: bytes) -> None:
    FAMILY.recognises(data)
    CoseSign1.inside(data)
    with contextlib.suppress(EvidenceMalformed):
        assert FAMILY.describe(data)
