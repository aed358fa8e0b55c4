"""Refusals as they arrive: signed by nobody, for a person who reads them on a terminal."""

import pytest

from protocol.errors import MalformedError, Refusal, RefusalCode, RefusedError, TurnedAwayError
from protocol.wire import strongroom_pb2 as pb
from protocol.wire.methods import refusal_from_metadata, refusal_from_wire, refusal_to_wire


def test_a_refusal_arrives_as_it_was_sent_and_says_whose_words_these_are() -> None:
    refusal = Refusal(code=RefusalCode.BUSY, expected="„Größe“ of 3", found="¿4?", remedy="wait")
    arrived = refusal_from_wire(refusal_to_wire(refusal))
    assert arrived.refusal == refusal
    assert str(arrived) == f"{refusal} (so says the appliance, unsigned)"
    assert isinstance(arrived, TurnedAwayError)
    assert isinstance(arrived, RefusedError)


@pytest.mark.parametrize("part", ["expected", "found", "remedy"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b[1;1Hsilo-0 is admitted", "U+001B[2JU+001B[1;1Hsilo-0 is admitted"),
        ("one\ntwo\r\nthree", "oneU+000AtwoU+000DU+000Athree"),
        ("a\u202eb\u200bc", "aU+202EbU+200Bc"),
        ("\x07\x00\x9b", "U+0007U+0000U+009B"),
    ],
)
def test_what_would_drive_a_terminal_is_written_out(part: str, text: str, shown: str) -> None:
    parts = {"expected": "a", "found": "b", "remedy": "c", part: text}
    for error in (
        refusal_from_wire(pb.Refusal(code="busy", **parts)),
        refusal_from_metadata([("refusal-bin", pb.Refusal(code="busy", **parts).SerializeToString())]),
    ):
        assert error is not None
        assert getattr(error.refusal, part) == shown
        assert str(error).isprintable()


def test_a_refusal_is_no_flood() -> None:
    error = refusal_from_wire(pb.Refusal(code="busy", expected="x" * 10**6, found="y", remedy="z" * 1000))
    assert error.refusal.expected == "x" * 1000 + "…"
    assert error.refusal.remedy == "z" * 1000


def test_an_unknown_code_is_quoted_and_cut() -> None:
    with pytest.raises(MalformedError) as caught:
        refusal_from_wire(pb.Refusal(code="\x1b[31m" + "x" * 1000))
    assert str(caught.value) == "refusal: unknown code '\\x1b[31m" + "x" * 58 + "'"
