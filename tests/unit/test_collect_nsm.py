"""The Nitro security module over a device that behaves as documented: CBOR, errors, truncation."""

import errno

import cbor2
import pytest
from kernel_devices import FakeNsm

from attestation.collect import nsm
from attestation.collect.endorsements import EndorsementFolder
from attestation.collect.errors import CollectionFailed, NoSealingKey
from attestation.collect.nsm import Nsm
from attestation.collect.quote_platforms import NitroPlatform
from attestation.tee import Tee

REPORT_DATA = bytes(range(64))


def test_a_document_has_the_report_data_as_user_data_and_nothing_else() -> None:
    device = FakeNsm()
    platform = NitroPlatform(module=Nsm(device), endorsements=EndorsementFolder(None))
    evidence = platform.evidence(REPORT_DATA)
    assert (platform.tee, evidence.tee, evidence.endorsements) == (Tee.NITRO, Tee.NITRO, ())
    assert evidence.report.startswith(b"signed:")
    assert device.requests == [{"Attestation": {"user_data": REPORT_DATA, "nonce": None, "public_key": None}}]


def test_nitro_has_no_sealing_key() -> None:
    platform = NitroPlatform(module=Nsm(FakeNsm()), endorsements=EndorsementFolder(None))
    with pytest.raises(NoSealingKey, match="no secret outlives a restart"):
        platform.sealing_key()


def test_the_module_says_who_it_is() -> None:
    assert Nsm(FakeNsm(module_id="i-1-enc2")).describe() == "i-1-enc2"


@pytest.mark.parametrize("name", ["InvalidArgument", "InputTooLarge", "InternalError", "InvalidOperation"])
def test_its_errors_are_said_by_name(name: str) -> None:
    with pytest.raises(CollectionFailed, match=f"/dev/nsm: the module answered '{name}'"):
        Nsm(FakeNsm(answer=cbor2.dumps({"Error": name}))).attest(user_data=REPORT_DATA)


@pytest.mark.parametrize(
    "answer",
    [
        {"Attestation": {}},
        {"Attestation": {"document": b""}},
        {"Attestation": {"document": "text"}},
        {"Attestation": [b"document"]},
        {"Attestation": {"document": b"a"}, "Error": "InternalError"},
        {"DescribeNSM": {"document": b"a"}},
        ["Attestation"],
        "Attestation",
        None,
        1,
    ],
)
def test_an_answer_to_something_else_is_refused(answer: object) -> None:
    with pytest.raises(CollectionFailed, match="expected an a"):
        Nsm(FakeNsm(answer=cbor2.dumps(answer))).attest(user_data=REPORT_DATA)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        cbor2.dumps({"Attestation": {"document": bytes(100)}})[:-1],
        cbor2.dumps({"Attestation": {"document": b"a"}}) + b"\0",
        b"\xa2\x6bAttestation\xa0\x6bAttestation\xa0",
        b"\x81" * 500 + b"\x00",
    ],
    ids=["empty", "no CBOR", "cut off", "trailing byte", "duplicate key", "deep"],
)
def test_what_is_no_single_cbor_value_is_refused(answer: bytes) -> None:
    with pytest.raises(CollectionFailed, match="/dev/nsm: expected "):
        Nsm(FakeNsm(answer=answer)).attest(user_data=REPORT_DATA)


def test_the_buffer_is_as_large_as_a_response_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel cuts off what does not fit, and says nothing."""
    answer = cbor2.dumps({"Attestation": {"document": bytes(0x2FE0)}})
    assert len(answer) <= 0x3000
    assert Nsm(FakeNsm(answer=answer)).attest(user_data=REPORT_DATA) == bytes(0x2FE0)
    monkeypatch.setattr(nsm, "RESPONSE_LIMIT_BYTES", 0x2000)
    with pytest.raises(CollectionFailed, match="found something else or its half"):
        Nsm(FakeNsm(answer=answer)).attest(user_data=REPORT_DATA)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ETIMEDOUT, "did not answer within 120 s"),
        (errno.EMSGSIZE, "longer than the module takes"),
        (errno.EIO, "EIO"),
    ],
)
def test_what_the_kernel_answers_is_said_in_words(number: int, words: str) -> None:
    with pytest.raises(CollectionFailed, match=words):
        Nsm(FakeNsm(number=number)).attest(user_data=REPORT_DATA)


def test_user_data_has_its_limit() -> None:
    with pytest.raises(ValueError, match="user_data"):
        Nsm(FakeNsm()).attest(user_data=bytes(513))
