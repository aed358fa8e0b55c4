"""The list of attacks on the log is whole; that the tests which it names exist, `test_docs_links` sees to."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "log-attacks.md").read_text()
LIST, _, MISTAKES = TEXT.partition("\n## Known to fool others\n")
TESTS = re.compile(r"(`tests/[^`]+::[^`]+` ?)+")


def rows(part: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.split("\n") if line[:2] == "| "]


def test_every_number_has_a_row_and_every_row_its_tests() -> None:
    attacks = rows(LIST)[1:]
    assert [int(number) for number, *_ in attacks] == sorted(int(number) for number, *_ in attacks)
    assert {int(number) for number, *_ in attacks} == set(range(1, 25))
    for _, attack, built, verdict, shown_by in attacks:
        assert attack
        assert built, attack
        assert verdict, attack
        assert TESTS.fullmatch(shown_by), attack


def test_every_verdict_but_a_refusal_is_an_audits_or_says_what_happens() -> None:
    """Where the audit passes, the row says why."""
    for _, attack, _, verdict, _ in rows(LIST)[1:]:
        assert not verdict.startswith("PASS") or len(verdict) > 30, attack


def test_what_is_known_to_fool_others() -> None:
    mistakes = rows(MISTAKES)[1:]
    assert len(mistakes) == 4
    for mistake, how, shown_by in mistakes:
        assert how, mistake
        assert TESTS.fullmatch(shown_by), mistake
