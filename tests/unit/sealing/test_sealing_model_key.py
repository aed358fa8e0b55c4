"""A model's key opens for the one recipient, round and body that it was handed out for."""

import os
from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import MalformedError, RefusalCode, RefusedError, SignatureError
from protocol.keys import SealingKey, SigningKey
from protocol.sealing import ContentKey, ModelKey, ModelKeyTerms, key_digest
from protocol.signed import sign_message

APPLIANCE = SigningKey(b"s" * 32)
SILO = SealingKey(b"z" * 96)
KEY = ContentKey(b"k" * 32)
TERMS = ModelKeyTerms(
    kind="model",
    body=b"d" * 32,
    agreement=b"a" * 32,
    boot_id=b"b" * 32,
    round=3,
    attempt=1,
    recipient="zurich",
    recipient_key=key_digest(SILO.public),
)


def message(terms: ModelKeyTerms = TERMS) -> bytes:
    return ModelKey.seal(KEY, terms, SILO.public, APPLIANCE)


def test_opens_for_its_recipient() -> None:
    handed = ModelKey.parse(message(), APPLIANCE.public)
    assert handed.terms == TERMS
    assert handed.open(SILO, TERMS).raw() == KEY.raw()


def test_the_key_is_not_in_the_message() -> None:
    assert KEY.raw() not in message()


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("kind", "control", RefusalCode.WRONG_MODEL),
        ("body", b"D" * 32, RefusalCode.WRONG_MODEL),
        ("agreement", b"A" * 32, RefusalCode.AGREEMENT_MISMATCH),
        ("boot_id", b"B" * 32, RefusalCode.WRONG_BOOT),
        ("round", 4, RefusalCode.WRONG_ROUND),
        ("attempt", 2, RefusalCode.WRONG_ROUND),
        ("recipient", "geneva", RefusalCode.WRONG_MODEL),
        ("recipient_key", b"K" * 32, RefusalCode.WRONG_MODEL),
    ],
)
class TestEveryTerm:
    """Is compared, and bound to the wrap even under a signature of the appliance."""

    def test_is_compared(self, field: str, value: Any, code: RefusalCode) -> None:
        handed = ModelKey.parse(message(), APPLIANCE.public)
        with pytest.raises(RefusedError, match=field) as refused:
            handed.open(SILO, replace(TERMS, **{field: value}))
        assert refused.value.refusal.code is code

    def test_is_bound_to_the_wrap(self, field: str, value: Any, code: RefusalCode) -> None:
        other = replace(TERMS, **{field: value})
        handed = ModelKey(terms=other, wrap=ModelKey.parse(message(), APPLIANCE.public).wrap)
        with pytest.raises(SignatureError):
            handed.open(SILO, other)


def test_another_silos_key_does_not_open_it() -> None:
    with pytest.raises(SignatureError):
        ModelKey.parse(message(), APPLIANCE.public).open(SealingKey(os.urandom(96)), TERMS)


def test_another_signer_is_refused() -> None:
    with pytest.raises(SignatureError, match="model key: the signature is not by"):
        ModelKey.parse(message(), SigningKey(os.urandom(32)).public)


def test_a_flipped_bit_anywhere_is_refused() -> None:
    data = message()
    for place in range(0, len(data), 7):
        changed = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        with pytest.raises(SignatureError):
            ModelKey.parse(changed, APPLIANCE.public)


@pytest.mark.parametrize("data", [b"", b"x" * 64, b"x" * 65])
def test_a_stump_is_refused(data: bytes) -> None:
    with pytest.raises((MalformedError, SignatureError)):
        ModelKey.parse(data, APPLIANCE.public)


@pytest.mark.parametrize(
    ("found", "replaced"),
    [(b'"kind":"model"', b'"kind":"update"'), (b'"wrap":"', b'"wrap":"AAAA'), (b'"round":3', b"")],
)
def test_a_signed_message_of_another_form_is_malformed(found: bytes, replaced: bytes) -> None:
    body = message()[64:].replace(found, replaced)
    with pytest.raises(MalformedError):
        ModelKey.parse(sign_message(APPLIANCE, "strongroom/model-key/v1", body), APPLIANCE.public)


def test_an_updates_key_is_handed_to_nobody() -> None:
    with pytest.raises(ValueError, match="'update'"):
        message(replace(TERMS, kind="update"))


def test_terms_that_name_another_key_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="another recipient"):
        message(replace(TERMS, recipient_key=b"K" * 32))
