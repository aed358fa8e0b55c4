"""Each header field that differs from what was asked for is refused by its own code, saying both values."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import MalformedError, RefusalCode, RefusedError
from protocol.sealing import ANY, BlobHeader, BlobKind

CASES = [
    ("agreement", b"A" * 32, RefusalCode.AGREEMENT_MISMATCH, "sha256:6161"),
    ("origin", "simulated.example/other", RefusalCode.OTHER_LOG, "simulated.example/log"),
    ("kind", BlobKind.INITIAL, RefusalCode.MALFORMED, "kind update, found initial"),
    ("sender", "geneva", RefusalCode.WRONG_SENDER, "sender zurich, found geneva"),
    ("boot_id", b"B" * 32, RefusalCode.WRONG_BOOT, "boot id"),
    ("round", 2, RefusalCode.WRONG_ROUND, "round 3, found 2"),
    ("attempt", 2, RefusalCode.WRONG_ROUND, "attempt 1, found 2"),
    ("layout", b"L" * 32, RefusalCode.WRONG_LAYOUT, "sha256:4c4c"),
    ("base_model", b"M" * 32, RefusalCode.WRONG_BASE_MODEL, "sha256:4d4d"),
    ("parent", b"P" * 16, RefusalCode.WRONG_PARENT, "70707070"),
    ("parent", None, RefusalCode.WRONG_PARENT, "found none"),
]


@pytest.mark.parametrize(("field", "value", "code", "words"), CASES)
def test_a_field_that_differs_is_refused(
    sealed: Any, reseal: Any, field: str, value: object, code: RefusalCode, words: str
) -> None:
    other = reseal(sealed, **{field: value})
    with pytest.raises(RefusedError) as refused:
        other.open()
    assert refused.value.refusal.code is code
    assert words in str(refused.value)
    assert refused.value.refusal.remedy


def test_an_upload_id_is_compared_where_it_is_known(sealed: Any) -> None:
    with pytest.raises(RefusedError, match="upload id"):
        sealed.open(expected=replace(sealed.expected, upload_id=b"U" * 16))
    assert sealed.open(expected=replace(sealed.expected, upload_id=b"u" * 16))


def test_a_missing_parent_is_something_to_expect(sealed: Any) -> None:
    with pytest.raises(RefusedError, match="parent none"):
        sealed.open(expected=replace(sealed.expected, parent=None))


def test_unchecked_fields_are_not_compared(sealed: Any, reseal: Any) -> None:
    other = reseal(sealed, boot_id=b"B" * 32, round=9, attempt=9, base_model=b"M" * 32, parent=None)
    expected = replace(sealed.expected, boot_id=ANY, round=ANY, attempt=ANY, base_model=ANY, parent=ANY)
    assert other.open(expected=expected)


@pytest.mark.parametrize("field", [field for field, *_ in CASES if field != "kind"])
def test_every_field_is_in_the_header(header: BlobHeader, field: str) -> None:
    encoded = header.encode()
    name = f'"{field}":'.encode()
    assert name in encoded
    with pytest.raises(MalformedError):
        BlobHeader.parse(encoded.replace(name, name[:-2] + b'x":'))


@pytest.mark.parametrize(
    ("found", "replaced"),
    [
        (b'"float32"', b'"float64"'),
        (b'"update"', b'"updates"'),
        (b'"zurich"', b'"Zurich"'),
        (b'"round":3', b'"round":-3'),
        (b'"round":3', b'"round":"3"'),
        (b'"attempt":1', b'"attempt":true'),
        (b'"attempt":1,', b""),
        (b'"attempt":1,', b'"attempt":1,"attempts":1,'),
        (b'"attempt":1,', b'"attempt": 1,'),
        (b"sha256:", b"sha512:"),
        (b"75" * 16, b"75" * 15),
    ],
)
def test_a_header_in_any_other_form_is_malformed(header: BlobHeader, found: bytes, replaced: bytes) -> None:
    encoded = header.encode()
    assert found in encoded
    with pytest.raises(MalformedError):
        BlobHeader.parse(encoded.replace(found, replaced))
