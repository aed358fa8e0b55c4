"""The documents lead where they say: every relative link, every test that is named, every file that is mentioned."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "THREATS.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[^`\s]+\.py)::([A-Za-z_0-9:]+)`")
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def functions_of(file: str) -> frozenset[str]:
    """The tests in a file, as `function` and `Class::function`."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return frozenset(found)


def anchors_of(file: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(file.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_to_something(name: str) -> None:
    document = ROOT / name
    broken = []
    for target in LINK.findall(prose(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.exists() or ROOT not in (found, *found.parents) or (anchor and anchor not in anchors_of(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_every_named_test_exists(name: str) -> None:
    missing = []
    for file, function in TEST.findall((ROOT / name).read_text()):
        if not (ROOT / file).is_file() or function not in functions_of(file):
            missing.append(f"{file}::{function}")
        elif not function.rpartition("::")[2].startswith("test_"):
            missing.append(f"{file}::{function} is no test")
    assert missing == []


def test_every_decision_has_a_number_of_its_own_and_one_title() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [file.name[:4] for file in files]
    assert all(number.isdigit() for number in numbers)
    assert len(set(numbers)) == len(numbers)
    for file in files:
        assert len(re.findall(r"^# .+$", file.read_text(), flags=re.MULTILINE)) == 1, file.name


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_as_many_cells_in_each_row(name: str) -> None:
    rows: list[int] = []
    for line in [*prose((ROOT / name).read_text()).split("\n"), ""]:
        if line.startswith("|"):
            rows.append(line.count("|"))
        else:
            assert len(set(rows)) <= 1, f"{name}: a table with rows of {sorted(set(rows))} bars, before {line!r}"
            rows = []
