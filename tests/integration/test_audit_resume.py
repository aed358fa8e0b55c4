"""A verification that goes on from an earlier one says what one from scratch says, of honest logs and forged ones."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from audit_forgery import AGREEMENT, HONEST, at, fields, without
from audit_history import QUORUM, Told, agreement_of, agreement_text, to_directory
from audit_tampering import copy_of, flipped
from bundled import bundle_of
from click.testing import CliRunner, Result

from audit import resuming
from audit.entries import RoundCommitted, RoundOpened, RoundPublished, SiloAdmitted, UpdateAccepted
from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.replay import History
from audit.report import AuditReport, AuditVerdict
from audit.resumption import Resumption
from audit.store import MemoryStore
from audit.verify import verify
from protocol.errors import MalformedError
from strongroom.cli import cli

STORE = HONEST.store()
HEAD = "the head of the verification before"


def kept_of(store: MemoryStore, resumed: Resumption | None = None) -> list[Resumption]:
    """What an audit keeps at every head, read back from its bytes."""
    kept: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resuming, "KEEP_EVERY_ENTRIES", 1)
        verify(LogFiles(store), AGREEMENT, resumed=resumed, keep=lambda item: kept.append(item.encode()))
    return [Resumption.parse(data) for data in kept]


KEPT = kept_of(STORE)


def said(report: AuditReport) -> AuditReport:
    """A report but for what it tells of the resumption, and how many signatures were checked for it."""
    checks = tuple(replace(check, detail="") for check in report.checks)
    notes = [note for note in report.information if not note.startswith("the first ")]
    return replace(report, checks=checks, information=tuple(sorted(notes)))


def from_scratch(store: MemoryStore, resumed: Resumption) -> AuditReport:
    """By an auditor who has no more than the head that he has seen."""
    return said(verify(LogFiles(store), AGREEMENT, kept={HEAD: resumed.checkpoint}))


def from_there(store: MemoryStore, resumed: Resumption) -> AuditReport:
    return said(verify(LogFiles(store), AGREEMENT, resumed=resumed))


def test_something_is_kept_at_every_head() -> None:
    sizes = [int(name[16:-5]) for name in STORE.list("log/checkpoints/")]
    assert [item.size for item in KEPT] == sorted(sizes)


@pytest.mark.parametrize(
    "resumed",
    [pytest.param(item, marks=[pytest.mark.slow] if n % 5 else [], id=str(item.size)) for n, item in enumerate(KEPT)],
)
def test_resumed_anywhere_it_says_what_it_says_from_scratch(resumed: Resumption) -> None:
    report = verify(LogFiles(STORE), AGREEMENT, resumed=resumed)
    assert report.verdict is AuditVerdict.PASS
    assert f"the first {resumed.size} entries were judged before, and were not judged again" in report.information[-1]
    assert said(report) == from_scratch(STORE, resumed)


def test_what_a_resumed_audit_keeps_is_what_one_from_scratch_keeps() -> None:
    assert [item.encode() for item in kept_of(STORE, KEPT[9])][-1] == KEPT[-1].encode()
    assert [item.size for item in kept_of(STORE, KEPT[9])][:-1] == [item.size for item in KEPT[10:-1]]


def test_what_was_judged_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[object] = []
    apply = History.apply
    monkeypatch.setattr(History, "apply", lambda self, entry: (applied.append(entry), apply(self, entry)))
    verify(LogFiles(STORE), AGREEMENT, resumed=KEPT[-1])
    assert applied == []
    verify(LogFiles(STORE), AGREEMENT, resumed=KEPT[-2])
    assert len(applied) == KEPT[-1].size - KEPT[-2].size


def test_where_every_entry_is_asked_for_every_entry_is_judged() -> None:
    heard: list[int] = []
    report = verify(LogFiles(STORE), AGREEMENT, resumed=KEPT[-1], told=lambda index, entry: heard.append(index))
    assert heard == [*range(34)]
    assert "are needed for what else was asked, and all were judged again" in report.information[0]
    assert verify(LogFiles(STORE), AGREEMENT, resumed=KEPT[-1], receipts=()).counts.entries == 34


FORGED: dict[str, Told] = {
    "another step count": fields(RoundOpened, 1, local_steps=99),
    "an update twice": HONEST.with_fields(
        at(UpdateAccepted, -1),
        upload_id=HONEST.entries[at(UpdateAccepted)].upload_id,  # type: ignore[union-attr]
    ),
    "another model": fields(RoundPublished, -1, model_in=bytes(32)),
    "a commit of nobody": fields(RoundCommitted, -1, cohort=()),
    "another request": fields(SiloAdmitted, -1, request=bytes(32)),
    "an entry left out": without(at(UpdateAccepted, 2)),
    "time backwards": fields(RoundOpened, -1, time=1),
    "no quorum": HONEST.with_cosigners(at(RoundOpened, -1), QUORUM[:1]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if n % 3 else []) for n, name in enumerate(FORGED)]
)
def test_a_forged_log_is_caught_all_the_same(name: str) -> None:
    store = FORGED[name].store()
    for resumed in KEPT[4::12]:
        expected = from_scratch(store, resumed)
        assert expected.verdict is not AuditVerdict.PASS
        assert from_there(store, resumed) == expected
    for resumed in kept_of(store)[-1:]:
        assert from_there(store, resumed) == from_scratch(store, resumed)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if n % 12 else [])
        for n, name in enumerate(name for name in STORE.list("log/") if "/objects/" not in name)
    ],
)
def test_a_file_that_was_changed_or_removed_since_is_caught(name: str) -> None:
    removed = copy_of(STORE)
    removed.delete(name)
    for store in (removed, flipped(STORE, name, len(STORE.read(name)) // 2, 1)):
        for resumed in (KEPT[3], KEPT[-1]):
            found = from_there(store, resumed)
            assert found == from_scratch(store, resumed)
            assert found.verdict is not AuditVerdict.PASS


def test_an_object_that_was_changed_or_removed_since_is_caught() -> None:
    for name in STORE.list("log/objects/")[::5]:
        removed = copy_of(STORE)
        removed.delete(name)
        assert from_there(removed, KEPT[-1]).verdict is AuditVerdict.INCOMPLETE
        assert name in {finding.resource for finding in from_there(removed, KEPT[-1]).missing}
        assert from_there(flipped(STORE, name, 0, 0), KEPT[-1]).verdict is AuditVerdict.FAIL


def test_a_log_that_was_rolled_back_since_fails() -> None:
    """A verdict from scratch, with nothing kept, could not tell."""
    store = HONEST.until(20).store()
    assert verify(LogFiles(store), AGREEMENT).verdict is AuditVerdict.PASS
    report = verify(LogFiles(store), AGREEMENT, resumed=KEPT[-1])
    assert report.verdict is AuditVerdict.FAIL
    assert "this log had 34 entries once, and now has" in str(report.divergence)


def test_cosignatures_that_came_later_are_judged() -> None:
    """The newest head's are without ado; for those of an earlier one, everything is."""
    index = at(RoundOpened, -1)
    bare = HONEST.with_cosigners(index, ())
    before = [item for item in kept_of(bare.store()) if item.size <= index + 1]
    assert before[-1].size == index + 1
    report = verify(LogFiles(STORE), AGREEMENT, resumed=before[-1])
    assert report.verdict is AuditVerdict.PASS
    assert "were not judged again" in report.information[-1]
    early = HONEST.with_cosigners(at(RoundOpened), ())
    (first,) = (item for item in kept_of(early.until(at(RoundOpened) + 1).store()) if item.size == at(RoundOpened) + 1)
    late = HONEST.with_cosigners(at(RoundOpened), ("silo-0", "silo-1", "silo-2", "silo-3"))
    assert verify(LogFiles(late.store()), AGREEMENT, resumed=first).verdict is AuditVerdict.PASS
    report = verify(LogFiles(late.store()), AGREEMENT, resumed=KEPT[-1])
    assert report.verdict is AuditVerdict.PASS
    assert "have other checkpoints, or more cosignatures" in report.information[0]


def test_nothing_is_kept_of_what_is_not_clean() -> None:
    odd = copy_of(STORE)
    odd.write("log/diary", b"dear")
    assert kept_of(odd) == []
    index = at(RoundOpened, -1)
    assert max(item.size for item in kept_of(FORGED["time backwards"].store())) <= index
    torn = flipped(STORE, "log/tile/0/000.p/12", 40, 1)
    assert max(item.size for item in kept_of(torn)) < 12


def test_another_version_of_the_reader_begins_at_the_first_entry() -> None:
    report = verify(LogFiles(STORE), AGREEMENT, resumed=replace(KEPT[-1], reader="0"))
    assert report.verdict is AuditVerdict.PASS
    assert "by another version of this reader (0, this is 1), and all were judged again" in report.information[0]


class TestFile:
    DATA = KEPT[12].encode()

    def test_it_round_trips(self) -> None:
        assert Resumption.parse(self.DATA).encode() == self.DATA
        assert json.loads(self.DATA)["kind"] == "audit.resumption"

    def test_any_change_is_refused_in_words(self) -> None:
        for position in range(0, len(self.DATA), 97):
            changed = bytearray(self.DATA)
            changed[position] ^= 1
            with pytest.raises(MalformedError):
                Resumption.parse(bytes(changed))
        with pytest.raises(MalformedError, match="expected it as it was written, found it changed"):
            Resumption.parse(self.DATA.replace(b'"published_rounds":0', b'"published_rounds":1'))

    @pytest.mark.parametrize("part", ["history", "evidence", "releases", "objects", "replayed"])
    def test_a_state_of_other_things_is_refused(self, part: str) -> None:
        state = {name: dict(of) for name, of in KEPT[-1].state.items()}
        name = sorted(state[part])[0]
        for other in ({**state[part], "more": 1}, {}, {**state[part], name: ("other",) * 3}):
            resumed = replace(KEPT[-1], state={**state, part: other})
            if other and len(other) == len(state[part]) and state[part][name] is None:
                continue
            with pytest.raises(MalformedError, match="expected the state of|another type"):
                verify(LogFiles(STORE), AGREEMENT, resumed=resumed)

    def test_every_attribute_of_the_replay_is_kept(self) -> None:
        assert set(KEPT[0].state["history"]) == set(vars(History(AGREEMENT))) - {"agreement", "outcomes"}


class TestCommand:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Path:
        to_directory(STORE, tmp_path / "store")
        (tmp_path / "federation.toml").write_text(agreement_text())
        return tmp_path

    def run(self, here: Path, *args: object, store: str = "store", agreement: str = "federation.toml") -> Result:
        arguments = ["audit", "verify", here / store, "--agreement", here / agreement, "--resume", here / "seen", *args]
        return CliRunner().invoke(cli, [*map(str, arguments)])

    def test_the_second_run_goes_on_from_the_first(self, here: Path) -> None:
        first = self.run(here)
        assert first.exit_code == 0, first.output
        kept = (here / "seen").read_bytes()
        assert Resumption.parse(kept).size == 34
        second = self.run(here)
        assert second.exit_code == 0
        assert "the first 34 entries were judged before, and were not judged again" in second.output
        assert (here / "seen").read_bytes() == kept
        (here / "log.tar").write_bytes(bundle_of(STORE, AGREEMENT))
        assert "were not judged again" in self.run(here, store="log.tar").output

    def test_a_file_that_is_none_or_of_another_agreement_is_refused(self, here: Path) -> None:
        (here / "seen").write_text("{}")
        result = self.run(here)
        assert result.exit_code == 2
        assert result.output.startswith(f"{here / 'seen'}: audit.resumption.kind: expected")
        (here / "seen").write_bytes(KEPT[0].encode())
        (here / "other.toml").write_text(agreement_text(lambda text: text.replace("rounds = 2", "rounds = 3")))
        result = self.run(here, agreement="other.toml")
        assert result.exit_code == 2
        assert f"under agreement {_digest(3)}, found one under {_digest(2)}" in result.output

    def test_a_verdict_that_is_none_leaves_the_file_as_it_was(self, here: Path) -> None:
        assert self.run(here).exit_code == 0
        kept = (here / "seen").read_bytes()
        tile = here / "store/log/tile/0/000.p/34"
        tile.write_bytes(tile.read_bytes()[:-1] + b"x")
        assert self.run(here).exit_code == 1
        assert (here / "seen").read_bytes() == kept


def _digest(rounds: int) -> str:
    agreement = agreement_of(lambda text: text.replace("rounds = 2", f"rounds = {rounds}"))
    return f"sha256:{agreement.digest.hex()}"


SLOWED = """
import sys, time
from audit import resuming, walk
from strongroom.cli import main
resuming.KEEP_EVERY_ENTRIES = 3
append = walk.RightEdge.append
walk.RightEdge.append = lambda self, leaf: (time.sleep(0.05), append(self, leaf))[1]
sys.argv[1:] = ["audit", "verify", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_where_it_kept(number: signal.Signals, tmp_path: Path) -> None:
    store, seen = to_directory(STORE, tmp_path / "store"), tmp_path / "seen"
    (tmp_path / "federation.toml").write_text(agreement_text())
    arguments = [str(store), "--agreement", str(tmp_path / "federation.toml"), "--resume", str(seen)]
    process = subprocess.Popen([sys.executable, "-c", SLOWED, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not seen.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() != 0
    size = Resumption.parse(seen.read_bytes()).size
    assert 0 < size < 34
    result = CliRunner().invoke(cli, ["audit", "verify", *arguments])
    assert result.exit_code == 0, result.output
    assert f"the first {size} entries were judged before, and were not judged again" in result.output


def test_a_head_of_another_history_fails() -> None:
    """Somebody's file of the same federation, whose log was another."""
    other = HONEST.with_fields(at(RoundPublished), state=bytes(32)).until(at(RoundPublished) + 2)
    resumed = kept_of(other.store())[-1]
    assert isinstance(resumed.checkpoint, Checkpoint)
    report = verify(LogFiles(STORE), AGREEMENT, resumed=resumed)
    assert report.verdict is AuditVerdict.FAIL
    assert "two histories" in str(report.damage)
