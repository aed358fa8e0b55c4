"""The report as a page: what it says is what the log holds, nothing in it is live, and nothing foreign is believed."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from audit_history import agreement_of, honest, to_directory
from click.testing import CliRunner, Result

from audit.log_files import LogFiles
from audit.page.plots import MAXIMUM_BARS, Bar, bars, merged
from audit.page.render import render
from audit.report import AuditReport
from audit.store import MemoryStore
from audit.story import Event, Story
from audit.verify import verify
from strongroom.cli import cli

VOID = {"meta", "br", "line", "rect", "path"}
NOW = 1_800_000_000


class Page(HTMLParser):
    """Every tag with its attributes, and all text; unbalanced tags are an error."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(data.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in {"td", "th"}:
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def told() -> tuple[AuditReport, Story]:
    agreement = agreement_of()
    story = Story(agreement)
    return verify(LogFiles(honest().store()), agreement, told=story.take), story


def page_of(report: AuditReport, story: Story) -> bytes:
    return render(report, story, agreement_of(), verified_at=NOW, version="0.1.0")


def test_it_tells_what_the_log_holds(told: tuple[AuditReport, Story]) -> None:
    report, story = told
    words = Page(page_of(report, story)).words
    assert "PASS (simulated: protects nothing)" in words
    assert "2 of 2 published, 2 attempts abandoned" in words
    assert f"{report.counts.updates_used} used" in words
    assert "Of silo-4 no evidence of its code is asked" in words
    assert "abandoned: below-minimum-cohort" in words
    assert "abandoned: restart" in words
    assert words.count("the appliance started (boot") == report.counts.boots
    for silo in agreement_of().silos:
        assert f"{silo.name} {silo.owner} {silo.jurisdiction}" in words
    for line in (*report.not_checked, *(check.name for check in report.checks)):
        assert line in words


def test_the_same_log_makes_the_same_page(told: tuple[AuditReport, Story]) -> None:
    assert page_of(*told) == page_of(*told)


def test_nothing_in_it_is_live_or_from_elsewhere(told: tuple[AuditReport, Story]) -> None:
    page = Page(page_of(*told))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a"}
    attributes = {name for _, found in page.tags for name in found}
    assert not {name for name in attributes if name.startswith("on")} | attributes & {"src", "href", "style", "srcset"}
    (policy,) = (found["content"] or "" for _, found in page.tags if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_figures_have_words_for_those_who_do_not_see_them(told: tuple[AuditReport, Story]) -> None:
    page = Page(page_of(*told))
    figures = [found for tag, found in page.tags if tag == "svg"]
    assert len(figures) == 3
    assert all(found["role"] == "img" and len(found["aria-label"] or "") > 30 for found in figures)
    html = dict(page.tags)["html"]
    assert html["lang"] == "en"
    assert all("scope" in found for tag, found in page.tags if tag == "th")


def test_foreign_text_is_text(told: tuple[AuditReport, Story]) -> None:
    report, story = told
    evil = "<script>alert(1)</script>\u202e"
    changed = replace(report, information=(*report.information, evil), origin=evil)
    other = Story(agreement_of())
    other.__dict__.update({**vars(story), "events": [*story.events, Event(index=1, time=1, what=evil)]})
    data = page_of(changed, other)
    assert b"<script" not in data
    assert b"&lt;script&gt;alert(1)" in data


def test_an_empty_log_makes_a_page_too() -> None:
    agreement = agreement_of()
    report = verify(LogFiles(MemoryStore()), agreement)
    words = Page(page_of(report, Story(agreement))).words
    assert "INCOMPLETE" in words
    assert "No round has ended yet." in words


def test_a_long_history_is_drawn_in_bounded_steps() -> None:
    series = [Bar(label=str(i), parts=(("used", i % 5),), title="") for i in range(10_000)]
    drawn = merged(series)
    assert len(drawn) <= MAXIMUM_BARS
    assert sum(bar.height for bar in drawn) / len(drawn) == pytest.approx(2.0, rel=0.02)
    assert bars(drawn, summary="many", unit="silos").count("<rect") == len(drawn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    to_directory(honest().store(), folder / "store")
    (folder / "federation.toml").write_bytes(agreement_of().source)
    return folder


class TestCommand:
    def report(self, folder: Path, *arguments: str) -> Result:
        agreement = ["--agreement", str(folder / "federation.toml")]
        return CliRunner().invoke(cli, ["audit", "report", str(folder / "store"), *agreement, *arguments])

    def test_it_writes_the_page_and_ends_as_verify_does(self, folder: Path) -> None:
        result = self.report(folder, "--out", str(folder / "page.html"))
        assert result.exit_code == 0, result.output
        assert "PASS (simulated: protects nothing): wrote" in result.stdout
        assert "PASS" in Page((folder / "page.html").read_bytes()).words

    def test_a_page_of_a_broken_log_says_so(self, folder: Path) -> None:
        bundle = next((folder / "store" / "log" / "tile" / "entries").glob("**/[0-9][0-9]"))
        data = bytearray(bundle.read_bytes())
        data[len(data) // 2] ^= 1
        bundle.write_bytes(data)
        result = self.report(folder, "--out", str(folder / "broken.html"))
        assert result.exit_code == 1
        assert "First divergence: " in Page((folder / "broken.html").read_bytes()).words

    def test_a_place_where_nothing_can_be_written(self, folder: Path) -> None:
        result = self.report(folder, "--out", str(folder / "nowhere" / "page.html"))
        assert result.exit_code == 2
        assert "expected a writable file" in result.stderr
