"""The models of the protocol: their checker, and what can be searched of them within seconds."""

import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "model"
MODEL = SimpleNamespace(**runpy.run_path(str(FOLDER / "check.py")))
QUICK = ("rounds-w3-q2", "witness-sign-first")
needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("cc") is None, reason="needs spin and a C compiler"
)


def test_every_switch_of_a_model_is_searched_with_and_without() -> None:
    """No mistake on purpose that nobody looks for, and no model that only fails, or only holds."""
    for model in ("rounds.pml", "witness.pml"):
        text = (FOLDER / model).read_text()
        switches = set(re.findall(r"^#ifn?def ([A-Z_]+)$", text, flags=re.MULTILINE))
        checks = [check for check in MODEL.CHECKS if check.model == model]
        searched = {define.partition("=")[0] for check in checks for define in check.defines}
        assert switches - searched <= {"I", "BOOTS", "LENGTH", "REQUESTS"}
        assert {check.holds for check in checks} == {True, False}
    assert sum(not check.holds for check in MODEL.CHECKS) == 11


def test_a_search_that_was_cut_short_shows_nothing() -> None:
    holds = next(check for check in MODEL.CHECKS if check.holds)
    fails = next(check for check in MODEL.CHECKS if not check.holds)
    cut = MODEL.Found(states=1, complete=False, counterexample=None, seconds=0.0)
    whole = MODEL.Found(states=1, complete=True, counterexample=None, seconds=0.0)
    found = MODEL.Found(states=1, complete=False, counterexample=7, seconds=0.0)
    assert [each.is_as_expected(holds) for each in (cut, whole, found)] == [False, True, False]
    assert [each.is_as_expected(fails) for each in (cut, whole, found)] == [False, False, True]


def test_without_spin_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert MODEL.main([]) == 2
    assert "apt-get install spin" in capsys.readouterr().out


@needs_spin
def test_the_models_quick_checks_come_out_as_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    assert MODEL.main(QUICK) == 0
    assert capsys.readouterr().out.count("fails after") == len(QUICK)


@needs_spin
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_them_do() -> None:
    assert MODEL.main([]) == 0
