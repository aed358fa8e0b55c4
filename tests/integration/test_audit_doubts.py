"""Evidence as of another day: what vendors have withdrawn since casts doubt on rounds, and changes no history."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from audit_forgery import AGREEMENT, HONEST, at, audit
from audit_history import Recorder, agreement_text, to_directory
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding
from synthetic_snp import revocation_list, root

from attestation import EvidenceRefused, EvidenceUncheckable, EvidenceWithdrawn, RevocationUnpublished
from attestation.evidence import Evidence
from attestation.simulated.roots import simulated_roots
from audit import doubts
from audit.doubts import MAXIMUM_REASONS, OtherDay
from audit.entries import ApplianceStarted, RoundPublished, SiloAdmitted
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict, Line
from audit.verify import verify
from strongroom.cli import cli

CHAIN = simulated_roots().chains[0]
TODAY = datetime(2026, 6, 1, tzinfo=UTC)
WEEK = {"this_update": TODAY - timedelta(days=3), "next_update": TODAY + timedelta(days=4)}
CLEAN = revocation_list(**WEEK)
REVOKED = revocation_list(serials=(CHAIN.intermediate.serial_number,), **WEEK)
PIECES = 10  # Genesis, two boots, seven admissions with evidence.


def audit_as_of(*lists: bytes, when: datetime = TODAY, history: object = HONEST) -> AuditReport:
    day = OtherDay(endorsements=lists, time=int(when.timestamp()))
    return verify(LogFiles(history.store()), AGREEMENT, other_day=day)  # type: ignore[attr-defined]


# By real lists of the simulated root


def test_without_lists_nothing_is_said_and_that_is_said() -> None:
    report = audit(HONEST)
    assert report.as_of is None
    assert any("--endorsements" in line for line in report.not_checked)


def test_a_clean_list_of_today() -> None:
    report = audit_as_of(CLEAN)
    as_of = report.as_of
    assert as_of is not None
    assert report.line == "PASS (simulated: protects nothing)"
    assert (as_of.held, as_of.doubts, as_of.unchecked, as_of.unpublished) == (PIECES, (), (), ())
    assert not any("would" in line for line in report.not_checked)


def test_an_authority_that_was_revoked_since() -> None:
    report = audit_as_of(REVOKED)
    as_of = report.as_of
    assert as_of is not None
    assert report.verdict is AuditVerdict.PASS
    assert report.line == "PASS, with 2 rounds in doubt (simulated: protects nothing)"
    assert report.exit_code == 0
    assert as_of.held == 0
    assert {item.party: item.count for item in as_of.doubts} == {
        "the appliance": 3,
        "silo-0": 2,
        "silo-1": 2,
        "silo-2": 2,
        "silo-3": 1,
    }
    by_party = {item.party: item for item in as_of.doubts}
    assert by_party["the appliance"].entries == (0, 1, at(ApplianceStarted, 1))
    assert all("revocation of CN=SEV-Simulated" in item.reason for item in as_of.doubts)
    # silo-1 is in the second round only, silo-3 in none.
    assert {party: item.rounds for party, item in by_party.items()} == {
        "the appliance": ((1, 2),),
        "silo-0": ((1, 2),),
        "silo-1": ((2, 2),),
        "silo-2": ((1, 2),),
        "silo-3": (),
    }
    assert as_of.rounds == ((1, 2),)


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ((), "expected a revocation list of CN=ARK-Simulated,O=Strongroom simulation (protects nothing), found none"),
        ((b"no list at all",), "found none"),
        ((CLEAN[:-1],), "found none"),
        ((revocation_list(root(), **WEEK),), "found 1 of others"),
        ((revocation_list(this_update=TODAY - timedelta(9), next_update=TODAY - timedelta(2)),), "validity of"),
        ((revocation_list(this_update=TODAY + timedelta(2), next_update=TODAY + timedelta(9)),), "validity of"),
        ((bytes([*CLEAN[:-1], CLEAN[-1] ^ 1]),), "signature of"),
    ],
    ids=["none", "no list", "cut", "another root's", "old", "of the future", "forged"],
)
def test_what_could_not_be_checked_is_no_doubt_and_is_said(lists: tuple[bytes, ...], words: str) -> None:
    report = audit_as_of(*lists)
    as_of = report.as_of
    assert as_of is not None
    assert report.line == "PASS (simulated: protects nothing)"
    assert (as_of.held, as_of.doubts, as_of.rounds) == (0, (), ())
    assert sum(item.count for item in as_of.unchecked) == PIECES
    assert all(words in item.reason for item in as_of.unchecked)
    assert f"whether {PIECES} pieces of evidence would still be accepted: no list for it could be used" in (
        report.not_checked
    )


def test_an_old_list_beside_todays_does_no_harm() -> None:
    old = revocation_list(this_update=TODAY - timedelta(30), next_update=TODAY - timedelta(20))
    report = audit_as_of(old, CLEAN)
    assert report.as_of is not None
    assert report.as_of.held == PIECES


def test_on_a_day_when_its_certificates_have_ended_nothing_can_be_checked() -> None:
    """An end of validity is no doubt: it was known when the evidence was accepted."""
    end = datetime(3000, 1, 2, tzinfo=UTC)
    later = revocation_list(this_update=end - timedelta(1), next_update=end + timedelta(1))
    as_of = audit_as_of(later, when=end).as_of
    assert as_of is not None
    assert as_of.doubts == ()
    assert all("validity of CN=" in item.reason for item in as_of.unchecked)


def test_lists_of_a_day_before_the_log_say_nothing_of_it() -> None:
    before = datetime(2025, 6, 1, tzinfo=UTC)
    listed = revocation_list(
        serials=(CHAIN.intermediate.serial_number,), this_update=before, next_update=before + timedelta(days=400)
    )
    as_of = audit_as_of(listed, when=before).as_of
    assert as_of is not None
    assert as_of.doubts == ()
    assert {item.reason for item in as_of.unchecked} == {"logged later than the day that the lists are of"}


# The reverse: what was wrong when it was logged stays wrong


def with_lists(*lists: bytes, number: int = 3) -> tuple[object, int]:
    """The honest history, in which one admission's evidence brought these lists."""
    recorder, index = Recorder(AGREEMENT), at(SiloAdmitted, number)

    class Bringing:
        def evidence(self, report_data: bytes) -> Evidence:
            from audit_history import PLATFORM

            evidence = PLATFORM.evidence(report_data)
            return replace(evidence, endorsements=(*evidence.endorsements, *lists))

    digest = recorder.request("silo-3", "x", platform=Bringing())  # type: ignore[arg-type]
    return HONEST.with_fields(index, recorder.objects[digest], request=digest), index


def test_lists_that_are_good_today_and_were_not_then_fail_the_history() -> None:
    history, index = with_lists(CLEAN)
    report = audit_as_of(CLEAN, history=history)
    assert report.verdict is AuditVerdict.FAIL
    assert report.divergence is not None
    assert (report.divergence.entry, report.divergence.line) == (index, Line.EVIDENCE)
    assert "validity of endorsement 1" in report.divergence.problem


def test_lists_that_were_good_then_and_are_not_today_do_not() -> None:
    then = datetime.fromtimestamp(HONEST.entries[at(SiloAdmitted, 3)].time, UTC)  # type: ignore[union-attr]
    history, _ = with_lists(revocation_list(this_update=then - timedelta(1), next_update=then + timedelta(1)))
    report = audit_as_of(CLEAN, history=history)
    assert report.verdict is AuditVerdict.PASS
    assert report.as_of is not None
    assert report.as_of.held == PIECES


def test_evidence_whose_own_list_revokes_it_fails_the_history() -> None:
    then = datetime.fromtimestamp(HONEST.entries[at(SiloAdmitted, 3)].time, UTC)  # type: ignore[union-attr]
    window = {"this_update": then - timedelta(1), "next_update": then + timedelta(1)}
    history, index = with_lists(revocation_list(serials=(CHAIN.intermediate.serial_number,), **window))
    report = audit_as_of(CLEAN, history=history)
    assert report.divergence is not None
    assert report.divergence.entry == index
    assert "evidence-not-authentic" in report.divergence.problem


# Which rounds rest on what


def judged(monkeypatch: pytest.MonkeyPatch, opinion: Callable[[int], Exception | None]) -> AuditReport:
    """An audit in which the vendor has an opinion of each piece of evidence, in the order of the log."""
    count = iter(range(1000))

    def appraise_again(*_: object) -> None:
        if (error := opinion(next(count))) is not None:
            raise error

    monkeypatch.setattr(doubts, "appraise_again", appraise_again)
    return audit_as_of()


# The honest history's evidence in order: genesis, boot A, silo-0 to silo-3, boot B, silo-0 to silo-2.
GENESIS, BOOT_A, A_SILO_2, A_SILO_3, BOOT_B, B_SILO_1 = 0, 1, 4, 5, 6, 8


@pytest.mark.parametrize(
    ("pieces", "rounds", "line"),
    [
        ({GENESIS}, ((1, 2),), "PASS, with 2 rounds in doubt"),
        ({BOOT_A}, ((1, 1),), "PASS, with 1 round in doubt"),
        ({BOOT_B}, ((2, 2),), "PASS, with 1 round in doubt"),
        ({A_SILO_2}, ((1, 1),), "PASS, with 1 round in doubt"),
        ({B_SILO_1}, ((2, 2),), "PASS, with 1 round in doubt"),
        ({A_SILO_2, B_SILO_1}, ((1, 2),), "PASS, with 2 rounds in doubt"),
        ({A_SILO_3}, (), "PASS, with evidence in doubt that no round rests on"),
        (set(), (), "PASS"),
    ],
)
def test_rounds_rest_on_the_boot_and_on_the_admissions_of_their_cohort(
    monkeypatch: pytest.MonkeyPatch, pieces: set[int], rounds: Sequence[tuple[int, int]], line: str
) -> None:
    error = EvidenceWithdrawn("revocation", expected="not listed", found="listed")
    report = judged(monkeypatch, lambda number: error if number in pieces else None)
    assert report.as_of is not None
    assert report.as_of.rounds == rounds
    assert len(report.as_of.doubts) == len(pieces)
    assert report.line == f"{line} (simulated: protects nothing)"


def test_what_is_no_longer_accepted_is_in_doubt_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    error = EvidenceRefused("tcb_statuses", expected="UpToDate", found="OutOfDate")
    as_of = judged(monkeypatch, lambda number: error if number == BOOT_B else None).as_of
    assert as_of is not None
    (doubt,) = as_of.doubts
    assert str(doubt) == (
        f"the appliance (entry {at(ApplianceStarted, 1)}): tcb_statuses: expected UpToDate, found OutOfDate; "
        "round 2 rest on it"
    )


def test_what_nobody_publishes_lists_for_is_told_apart_from_what_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    never = RevocationUnpublished("revocation", expected="a list", found="none: AWS publishes none")
    absent = EvidenceUncheckable("revocation", expected="a list", found="none")
    as_of = judged(monkeypatch, lambda number: never if number < BOOT_B else absent).as_of
    assert as_of is not None
    assert sum(item.count for item in as_of.unpublished) == BOOT_B
    assert sum(item.count for item in as_of.unchecked) == PIECES - BOOT_B


def test_reasons_are_bounded_and_one_line() -> None:
    tallies = doubts._Tallies()
    for index in range(3 * MAXIMUM_REASONS):
        tallies.add(index, "silo-0", f"reason {index}").rounds.add(index)
    standings = tallies.standings()
    assert len(standings) == MAXIMUM_REASONS + 1
    assert sum(item.count for item in standings) == 3 * MAXIMUM_REASONS
    assert standings[-1].rounds == ((MAXIMUM_REASONS, 3 * MAXIMUM_REASONS - 1),)
    assert len(standings[-1].entries) == 20
    assert str(standings[-1]).endswith(f"rounds {MAXIMUM_REASONS} to {3 * MAXIMUM_REASONS - 1} rest on it")
    assert "and 380 more" in str(standings[-1])


# From the command line


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doubts")
    (folder / "federation.toml").write_text(agreement_text())
    to_directory(HONEST.store(), folder / "store")
    return folder


def run(store: Path, *options: object) -> Result:
    return CliRunner().invoke(
        cli,
        ["audit", "verify", str(store / "store"), "--agreement", str(store / "federation.toml"), *map(str, options)],
    )


def folder_of(path: Path, **files: bytes) -> Path:
    path.mkdir(exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


AT = ("--at", f"{TODAY:%Y-%m-%d}")


def test_the_first_line_says_so_and_the_exit_code_if_asked(store: Path, tmp_path: Path) -> None:
    from cryptography import x509

    pem = x509.load_der_x509_crl(REVOKED).public_bytes(Encoding.PEM)
    folder = folder_of(tmp_path / "lists", ark=pem, other=revocation_list(root(), **WEEK))
    result = run(store, "--endorsements", folder, *AT)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "PASS, with 2 rounds in doubt (simulated: protects nothing)"
    assert "As of 2026-06-01 00:00 UTC: 0 pieces of evidence hold; rounds 1 to 2 in doubt" in result.output
    assert "silo-1 (entries" in result.output
    assert run(store, "--endorsements", folder, *AT, "--fail-on-doubt").exit_code == 3
    found = json.loads(run(store, "--endorsements", folder, *AT, "--json").output)
    assert found["verdict"] == "PASS"
    assert found["as_of"]["rounds_in_doubt"] == [[1, 2]]
    assert found["as_of"]["time"] == int(TODAY.timestamp())
    assert {item["party"] for item in found["as_of"]["doubts"]} >= {"the appliance", "silo-0"}


def test_a_clean_list_ends_well_and_an_empty_folder_does_not(store: Path, tmp_path: Path) -> None:
    clean = folder_of(tmp_path / "clean", ark=CLEAN)
    assert run(store, "--endorsements", clean, *AT, "--fail-on-doubt").exit_code == 0
    result = run(store, "--endorsements", folder_of(tmp_path / "empty"), *AT, "--fail-on-doubt")
    assert result.exit_code == 3
    assert "Not checked as of that day:" in result.output


@pytest.mark.parametrize("option", [("--at", "2026-06-01"), ("--fail-on-doubt",)])
def test_a_day_without_lists_is_a_mistake(store: Path, option: tuple[str, ...]) -> None:
    result = run(store, *option)
    assert result.exit_code != 0
    assert "expected --endorsements beside it" in result.output


@pytest.mark.parametrize("time", ["tomorrow", "253402300800", "2026-13-01", "-1"])
def test_a_time_that_is_none(store: Path, tmp_path: Path, time: str) -> None:
    result = run(store, "--endorsements", folder_of(tmp_path / "lists"), f"--at={time}")
    assert result.exit_code == 2
    assert "--at: expected" in result.output


def test_a_folder_that_is_none(store: Path, tmp_path: Path) -> None:
    result = run(store, "--endorsements", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "expected a folder of endorsements" in result.output


def test_the_history_has_the_rounds_that_these_tests_count() -> None:
    cohorts = [[m.silo for m in e.cohort] for e in HONEST.entries if isinstance(e, RoundPublished)]
    assert cohorts == [["silo-0", "silo-2", "silo-4"], ["silo-0", "silo-1", "silo-2"]]
