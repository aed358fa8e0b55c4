"""The fuzzer's targets stand on their own: each takes its seeds, and what becomes of them, or raises its own error."""

import random

import pytest
from parser_targets import targets

TARGETS = targets()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_takes_its_seeds_and_what_becomes_of_them(name: str) -> None:
    target, rng = TARGETS[name], random.Random(name)
    for seed in (*target.seeds[:8], b"", b"{}", b"\0" * 100):
        target(seed)
        for _ in range(20):
            data = bytearray(seed)
            for _ in range(rng.randrange(1, 4)):
                place = rng.randrange(len(data) + 1)
                data[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            target(bytes(data))


def test_seeds_of_evidence_are_recognised() -> None:
    """Otherwise the fuzzer would start from nothing."""
    assert any(TARGETS["recognise"](seed) for seed in TARGETS["recognise"].seeds)
