"""`report_data` commits to every input: change one, and the 64 bytes change."""

import hashlib

import pytest

from attestation.encoding import labelled
from attestation.report_data import report_data, unattended_nonce

INPUTS = {
    "role": "silo",
    "purpose": "enrolment",
    "party": "north",
    "agreement": b"a" * 32,
    "boot_id": b"b" * 32,
    "nonce": b"n" * 32,
    "keys": {"identity": b"i" * 32, "sealing": b"s" * 1216},
}
CHANGES = {
    "role": "appliance",
    "purpose": "boot",
    "party": "north2",
    "agreement": b"A" + b"a" * 31,
    "boot_id": b"b" * 31 + b"B",
    "nonce": b"N" + b"n" * 31,
    "keys": {"identity": b"i" * 32, "sealing": b"s" * 1215 + b"S"},
}


def test_it_is_the_sha512_of_the_labelled_fields() -> None:
    fields = (b"silo", b"enrolment", b"north", b"a" * 32, b"b" * 32, b"n" * 32)
    keys = (b"identity", b"i" * 32, b"sealing", b"s" * 1216)
    assert report_data(**INPUTS) == hashlib.sha512(labelled("strongroom/report-data/v1", *fields, *keys)).digest()
    assert report_data(**INPUTS).hex().startswith("f9e356074d0dabd14995bc64a3bdc75b")


@pytest.mark.parametrize("field", sorted(INPUTS))
def test_each_input_counts(field: str) -> None:
    assert report_data(**{**INPUTS, field: CHANGES[field]}) != report_data(**INPUTS)


@pytest.mark.parametrize(
    "keys",
    [
        {"identity": b"i" * 32},
        {"identity": b"i" * 32, "sealing": b"s" * 1216, "log": b"l"},
        {"identity": b"s" * 1216, "sealing": b"i" * 32},
        {"identity": b"i" * 32, "sealinG": b"s" * 1216},
        {"identity": b"i" * 32 + b"sealing", "sealing": b"s" * 1216},
        {"identity" + "i": b"i" * 31, "sealing": b"s" * 1216},
    ],
    ids=["one missing", "one more", "swapped", "another name", "moved boundary", "name runs into key"],
)
def test_the_keys_count_by_role(keys: dict[str, bytes]) -> None:
    assert report_data(**{**INPUTS, "keys": keys}) != report_data(**INPUTS)


def test_the_order_of_the_keys_does_not_count() -> None:
    keys = dict(reversed(INPUTS["keys"].items()))
    assert report_data(**{**INPUTS, "keys": keys}) == report_data(**INPUTS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "auditor"),
        ("purpose", "enrollment"),
        ("party", ""),
        ("agreement", b"a" * 31),
        ("boot_id", b""),
        ("nonce", b"n" * 33),
        ("keys", {}),
        ("keys", {"identity": b""}),
        ("keys", {"": b"i" * 32}),
    ],
)
def test_what_is_not_an_input_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        report_data(**{**INPUTS, field: value})


def test_the_unattended_nonce_depends_on_agreement_and_boot() -> None:
    nonce = unattended_nonce(b"a" * 32, b"b" * 32)
    assert len(nonce) == 32
    assert nonce != unattended_nonce(b"A" * 32, b"b" * 32)
    assert nonce != unattended_nonce(b"a" * 32, b"B" * 32)
    assert nonce != unattended_nonce(b"b" * 32, b"a" * 32)
    with pytest.raises(ValueError, match="boot_id"):
        unattended_nonce(b"a" * 32, b"b" * 16)
