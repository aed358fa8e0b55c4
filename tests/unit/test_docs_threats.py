"""A defence without a test is not on the list of `THREATS.md`, and the list says nothing twice."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
THREATS = (ROOT / "THREATS.md").read_text()
DEFENDED, _, UNDEFENDED = THREATS.partition("\n## Not defended against, in plain words\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DEFENDED.split("\n")
    if line.startswith("| ") and not line.startswith("| attack ")
]


def test_there_is_a_list_and_a_second_part() -> None:
    assert len(ROWS) > 40
    assert len(UNDEFENDED.split("\n\n")) > 10


def test_every_defence_names_its_place_and_a_test() -> None:
    for attack, defence, where, shown_by in ROWS:
        assert attack, "a row without an attack"
        assert defence, attack
        assert where == "whole tree" or re.search(r"\]\([a-z_/]+\.py\)", where), attack
        assert re.fullmatch(r"(`tests/[^`]+::[^`]+` ?)+", shown_by), attack


def test_no_attack_stands_there_twice() -> None:
    attacks = [attack for attack, *_ in ROWS]
    assert len(attacks) == len(set(attacks))


def test_it_says_in_the_beginning_that_the_tee_is_simulated() -> None:
    assert "simulated" in THREATS.partition("## Defended")[0]
