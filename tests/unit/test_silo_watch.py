"""How a silo's events are shown, on a terminal, in a log and to a script."""

import io
import json

import pytest
from rich.console import Console

from protocol.errors import MalformedError, RefusalCode, refuse
from silo_client.events import Event, EventKind
from strongroom.commands.silo_watch import Bars, JsonLines, Lines, _progress

ROUND = Event(kind=EventKind.ROUND, text="round 1 of 3, attempt 1", facts={"round": 1, "local_steps": 10})
SUBMITTED = Event(kind=EventKind.SUBMITTED, text="round 1: [the] update was accepted", facts={"round": 1})
FINISHED = Event(kind=EventKind.FINISHED, text="the federation has ended", facts={})
REFUSAL = refuse(RefusalCode.LOG_FORKED, expected="one history", found="two", remedy="stop")


def test_a_bar_a_round_on_a_terminal() -> None:
    out = io.StringIO()
    with _progress(Console(file=out, force_terminal=True, width=100)) as progress:
        bars = Bars(progress)
        bars.event(ROUND)
        bars.step(round_number=1, done=4, total=10)
        progress.refresh()
        assert "4/10" in out.getvalue()
        bars.event(SUBMITTED)
        bars.event(ROUND)
        assert len(progress.tasks) == 1
        bars.event(FINISHED)
        assert not progress.tasks
    # What looks like markup is printed as it is.
    assert "round 1: [the] update was accepted" in out.getvalue()


def test_a_refusal_ends_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with _progress(Console(file=io.StringIO(), force_terminal=True)) as progress:
        bars = Bars(progress)
        bars.event(ROUND)
        bars.refused(REFUSAL)
    assert capsys.readouterr().err == "log-forked: expected one history, found two; stop\n"


def test_lines_for_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for event in (ROUND, SUBMITTED):
        lines.event(event)
        lines.step(round_number=1, done=1, total=10)
    lines.refused(REFUSAL)
    found = capsys.readouterr()
    assert found.out == "round 1 of 3, attempt 1\nround 1: [the] update was accepted\n"
    assert found.err == f"{REFUSAL}\n"


def test_json_for_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    lines = JsonLines(out)
    lines.event(ROUND)
    lines.step(round_number=1, done=1, total=10)
    lines.refused(REFUSAL)
    lines.refused(MalformedError("nonsense"))
    first, second, third = map(json.loads, out.getvalue().splitlines())
    assert first == {"event": "round", "text": ROUND.text, "round": 1, "local_steps": 10}
    assert second == {
        "event": "refused",
        "text": str(REFUSAL),
        "code": "log-forked",
        "expected": "one history",
        "found": "two",
        "remedy": "stop",
    }
    assert third == {"event": "refused", "text": "nonsense"}
