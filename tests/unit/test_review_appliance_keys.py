"""A welcome that anybody can make up: keys that evidence could not commit to are malformed, and nothing else breaks."""

import pytest

from protocol.enrolment import ApplianceKeys, Welcome
from protocol.errors import MalformedError

GOOD = {"signing": b"s" * 32, "log": b"l" * 32, "sealing": b"k" * 1216, "ca": b"c" * 91}


def welcome(**keys: bytes) -> bytes:
    return Welcome(
        agreement=b"a" * 32,
        origin="simulated.example/log",
        boot_id=b"b" * 32,
        keys=ApplianceKeys(**{**GOOD, **keys}),
        nonce=b"n" * 32,
        evidence=b"",
        challenge=b"c" * 32,
        checkpoint="",
    ).encode()


def test_keys_of_their_sizes() -> None:
    assert len(Welcome.parse(welcome()).expected_report_data(b"n" * 32)) == 64


@pytest.mark.parametrize(("key", "size"), [("sealing", 1216), ("ca", 91)])
@pytest.mark.parametrize("change", [-1, 1, None])
def test_keys_of_any_other_size(key: str, size: int, change: int | None) -> None:
    value = b"" if change is None else b"x" * (size + change)
    with pytest.raises(MalformedError, match=rf"keys\.{key}: expected base64 of {size} bytes"):
        Welcome.parse(welcome(**{key: value}))
