"""The compact set of ids says what a set says."""

import copy
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import id_set
from audit.id_set import IdSet

IDS = st.lists(
    st.binary(min_size=16, max_size=16) | st.sampled_from([b"\0" * 16, b"\0" * 15 + b"\1", b"\1" + b"\0" * 15])
)


@settings(max_examples=50)
@given(ids=IDS, others=IDS)
def test_it_is_a_set(ids: list[bytes], others: list[bytes]) -> None:
    """All in one bucket, where neighbours could be taken for an id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_set, "_BUCKETS", 1)
        compact, plain = IdSet(16, ids), set(ids)
        assert len(compact) == len(plain)
        assert set(compact) == plain
        shifted = [(a + b)[offset : offset + 16] for a, b in pairwise(ids) for offset in (1, 8)]
        assert all((item in compact) == (item in plain) for item in (*ids, *others, *shifted))


def test_it_takes_ids_only_and_is_copied_whole() -> None:
    ids = IdSet(16, [b"1" * 16])
    with pytest.raises(ValueError, match="expected 16 bytes, found 15"):
        ids.add(b"1" * 15)
    assert b"1" * 15 not in ids
    other = copy.copy(ids)
    other.add(b"2" * 16)
    assert (len(ids), len(other)) == (1, 2)
