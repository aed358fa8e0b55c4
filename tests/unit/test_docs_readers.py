"""The list of where other readers judge otherwise: its half that needs no other reader."""

from readers.cases import verdicts
from readers.other_readers import ACCEPTS, READERS, REFUSES, written_list


def test_our_verdicts_are_as_written_and_every_row_is_a_difference_with_a_reason() -> None:
    ours, rows = verdicts(), written_list()
    assert len(ours) > 100
    assert len(rows) > 40
    for name, (mine, *theirs, reason) in rows.items():
        assert mine == (ACCEPTS if ours[name] is None else REFUSES), name
        assert len(theirs) == len(READERS)
        assert {ACCEPTS, REFUSES} - {mine} <= set(theirs), name
        assert len(reason) > 40, name
