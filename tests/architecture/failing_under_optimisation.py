"""Asserts that are false, for `test_optimised` to see them fail under `python -O`; no test by its name."""

from audit_forgery import HONEST, assert_diverges

from audit.report import Line


def test_an_assert_in_a_test_file() -> None:
    assert len(HONEST.entries) < 0


def test_an_assert_in_a_module_beside_the_tests() -> None:
    assert_diverges(HONEST, 1, Line.ENTRIES, "an honest history does not diverge")
