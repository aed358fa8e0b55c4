"""`audit compare`, `verify-fraud`, `prove`, `check-receipt` and the filters of `show`, as an auditor runs them."""

import json
from pathlib import Path

import pytest
from audit_forgery import AGREEMENT, HONEST
from audit_history import LOG_KEY, agreement_text, to_directory
from click.testing import CliRunner, Result
from forked_logs import KEY, SIZE, forked, note, uncosigned

from audit.log import LogReader
from audit.proof import Receipt
from protocol.fields import format_digest
from strongroom.cli import cli


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["audit", *map(str, args)])


@pytest.fixture
def agreement(tmp_path: Path) -> Path:
    path = tmp_path / "federation.toml"
    path.write_text(agreement_text())
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return to_directory(HONEST.store(), tmp_path / "store")


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    return to_directory(forked(20, HONEST.until(30)).store(), tmp_path / "fork")


@pytest.fixture
def proof(store: Path, fork: Path, tmp_path: Path) -> Path:
    path = tmp_path / "found.fraud"
    assert run("compare", store, fork, "--out", path).exit_code == 1
    return path


def assert_one_line(result: Result, words: str, exit_code: int = 2) -> None:
    assert result.exit_code == exit_code, result.output
    assert result.output.count("\n") == 1, result.output
    assert words in result.output


class TestCompare:
    def test_a_longer_log_extends_a_shorter_one(self, store: Path, tmp_path: Path, agreement: Path) -> None:
        older = to_directory(HONEST.until(30).store(), tmp_path / "older")
        for sides in ((older, store), (store, older / "log")):
            result = run("compare", *sides, "--agreement", agreement)
            assert result.exit_code == 0
            assert result.output.splitlines() == [
                "CONSISTENT (simulated: protects nothing)",
                f"{store} extends {sides[0] if sides[0] != store else sides[1]} by 4 entries, proved",
            ]

    def test_two_histories_make_a_file_and_say_how_to_check_it(
        self, store: Path, fork: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = run("compare", store, fork)
        assert result.exit_code == 1
        assert result.output.splitlines() == [
            "CONTRADICTION (simulated: protects nothing)",
            "the log has signed a root of 30 entries, and one of 34 entries that do not begin with those 30",
            "wrote log.fraud; whoever has the agreement checks it with: strongroom audit verify-fraud log.fraud",
        ]
        assert run("verify-fraud", "log.fraud").exit_code == 0

    def test_notes_and_receipts(self, store: Path, fork: Path, tmp_path: Path, agreement: Path) -> None:
        ours, theirs = tmp_path / "ours.note", tmp_path / "theirs.note"
        ours.write_bytes(note(HONEST, SIZE))
        theirs.write_bytes(note(forked(20), SIZE))
        untold = run("compare", ours, theirs, "--agreement", agreement)
        assert untold.exit_code == 2
        assert "COULD NOT TELL" in untold.output
        assert "name a store, or a silo, that has the evidence" in untold.output
        assert run("compare", ours, theirs).exit_code == 2
        out = ("--out", tmp_path / "x.fraud")
        assert run("compare", ours, theirs, "--vouch", store, *out).exit_code == 1
        assert run("verify-fraud", out[1], "--agreement", agreement).exit_code == 0
        assert run("compare", ours, store).exit_code == 0
        receipt = tmp_path / "00000024.tlog-proof"
        assert run("prove", store, 24, "--out", receipt, "--entry", tmp_path / "00000024.entry.json").exit_code == 0
        assert run("compare", receipt, store).exit_code == 0
        assert run("compare", receipt, fork, *out).exit_code == 1
        assert "another entry 24 in each" in run("verify-fraud", out[1]).output
        (tmp_path / "00000024.entry.json").unlink()
        assert run("compare", receipt, fork, *out).exit_code == 2

    def test_json(self, store: Path, fork: Path, tmp_path: Path) -> None:
        result = run("compare", store, fork, "--json", "--out", tmp_path / "x.fraud")
        found = json.loads(result.output)
        assert (result.exit_code, found["relation"], found["sizes"]) == (1, "contradiction", [30, 34])
        assert found["log_keys"] == [str(LOG_KEY.public)]
        assert found["proof"] == str(tmp_path / "x.fraud")
        assert found["identified"] is True
        found = json.loads(run("compare", store, store, "--json").output)
        assert (found["relation"], found["proof"], found["simulated"]) == ("consistent", None, True)

    def test_a_log_that_no_silo_is_seen_in_needs_somebodys_word(self, tmp_path: Path) -> None:
        mine = to_directory(uncosigned().store(), tmp_path / "mine")
        other = to_directory(uncosigned(forked(20)).store(), tmp_path / "other")
        path = tmp_path / "x.fraud"
        result = run("compare", mine, other, "--out", path)
        assert result.exit_code == 1
        assert f"--log-key {LOG_KEY.public}" in result.output
        result = run("verify-fraud", path)
        assert result.exit_code == 1
        assert result.output.startswith("PROVES NOTHING ABOUT YOUR LOG")
        assert json.loads(run("verify-fraud", path, "--json").output)["proved"] is False
        assert run("verify-fraud", path, "--log-key", LOG_KEY.public).exit_code == 0

    def test_what_can_not_be_read(self, store: Path, tmp_path: Path, agreement: Path) -> None:
        odd = tmp_path / "odd"
        odd.write_bytes(b"\x00\x1b[2J")
        assert_one_line(run("compare", store, tmp_path / "none"), "expected a readable file")
        assert_one_line(run("compare", odd, store), "expected a store, a log directory, a checkpoint, a receipt")
        assert_one_line(run("compare", tmp_path, store), "found no log in it")
        assert_one_line(run("compare", store, store, "--agreement", tmp_path / "none"), "expected a readable file")
        assert_one_line(run("compare", agreement, store), "expected")
        assert_one_line(run("compare", store, store, "--vouch", odd), "expected a store")


class TestVerifyFraud:
    def test_it_says_what_is_proved_and_of_whom(self, proof: Path, agreement: Path) -> None:
        result = run("verify-fraud", proof, "--agreement", agreement)
        assert result.exit_code == 0
        lines = result.output.splitlines()
        assert lines[0] == "FRAUD PROVED (simulated: protects nothing)"
        assert lines[1].startswith("the log has signed a root of 30 entries")
        assert f"  log key    {LOG_KEY.public}" in lines
        assert f"  agreement  {format_digest(AGREEMENT.digest)}, which is yours" in lines
        assert "  cosigned   by alpenklinik, baltic-bank, delta-telecom" in lines
        assert lines[-1] == "the agreement accepts simulated evidence, which anybody can make for any key"

    def test_without_ones_own_agreement_it_says_to_compare(self, proof: Path) -> None:
        result = run("verify-fraud", proof)
        assert result.exit_code == 0
        assert "compare its digest with yours, or name your copy with --agreement" in result.output

    def test_another_agreement(self, proof: Path, agreement: Path) -> None:
        agreement.write_text(agreement_text(lambda text: text.replace("rounds = 2", "rounds = 3")))
        result = run("verify-fraud", proof, "--agreement", agreement)
        assert result.exit_code == 1
        assert result.output.splitlines()[0] == "PROVES NOTHING"
        assert "as in your file, found one about" in result.output
        found = json.loads(run("verify-fraud", proof, "--agreement", agreement, "--json").output)
        assert found["proved"] is False
        assert "found one about" in found["why"]

    def test_json(self, proof: Path, agreement: Path) -> None:
        found = json.loads(run("verify-fraud", proof, "--agreement", agreement, "--json").output)
        assert found["proved"] is True
        assert found["contradiction"] == "two-histories"
        assert [head["size"] for head in found["heads"]] == [30, 34]
        assert (found["simulated"], found["agreement_is_yours"]) == (True, True)

    def test_a_damaged_file_and_none(self, proof: Path, tmp_path: Path) -> None:
        data = proof.read_bytes()
        proof.write_bytes(data[:-1])
        assert_one_line(run("verify-fraud", proof), "the file is damaged")
        proof.write_bytes(b"")
        assert_one_line(run("verify-fraud", proof), 'expected "strongroom-fraud/1 sha256:<digest>"')
        assert_one_line(run("verify-fraud", tmp_path / "none"), "expected a readable file")
        proof.write_bytes(data)
        assert_one_line(run("verify-fraud", proof, "--log-key", "ed25519:x"), "--log-key: key: expected")


class TestProve:
    def test_a_receipt_that_a_stranger_checks(self, store: Path, tmp_path: Path, agreement: Path) -> None:
        receipt, entry = tmp_path / "r.tlog-proof", tmp_path / "entry.json"
        receipt.write_text(run("prove", store, 24, "--entry", entry).output)
        assert Receipt.parse(receipt.read_bytes()) == LogReader(HONEST.store()).receipt(24)
        for key in (("--vouch", store), ("--log-key", LOG_KEY.public), ("--log-key", KEY)):
            result = run("check-receipt", receipt, entry, "--agreement", agreement, *key)
            assert result.exit_code == 0, result.output
            assert result.output.splitlines() == [
                "INCLUDED (simulated: protects nothing)",
                f"entry 24 of the log {AGREEMENT.log.origin}, under its head of 34 entries",
                "cosigned by alpenklinik, baltic-bank, delta-telecom",
            ]
        found = json.loads(
            run("check-receipt", receipt, entry, "--agreement", agreement, "--vouch", store, "--json").output
        )
        assert (found["included"], found["index"], found["quorum"]) == (True, 24, True)

    def test_another_entry_is_not_shown(self, store: Path, tmp_path: Path, agreement: Path) -> None:
        receipt, entry = tmp_path / "r.tlog-proof", tmp_path / "entry.json"
        run("prove", store, 24, "--out", receipt)
        run("prove", store, 25, "--out", tmp_path / "other", "--entry", entry)
        result = run("check-receipt", receipt, entry, "--agreement", agreement, "--vouch", store)
        assert result.exit_code == 1
        assert result.output.startswith("NOT SHOWN\ninclusion: expected the signed root")

    def test_the_logs_word_alone_has_an_exit_code_of_its_own(
        self, store: Path, tmp_path: Path, agreement: Path
    ) -> None:
        receipt, entry = tmp_path / "r.tlog-proof", tmp_path / "entry.json"
        assert run("prove", store, 1, "--at", 3, "--out", receipt, "--entry", entry).exit_code == 0
        result = run("check-receipt", receipt, entry, "--agreement", agreement, "--vouch", store)
        assert result.exit_code == 3
        assert "cosigned by nobody, which is no quorum: this is the log's word alone" in result.output

    def test_what_is_not_there(self, store: Path, tmp_path: Path, agreement: Path) -> None:
        assert_one_line(run("prove", store, SIZE), "INDEX: expected a number below 34")
        assert_one_line(run("prove", store, 1, "--at", 33), "no such name")
        for tile in (store / "log/tile/0").rglob("34"):
            tile.write_bytes(bytes(32 * 34))
        assert_one_line(run("prove", store, 1), "the store's tiles don't prove it")
        receipt, entry = tmp_path / "r", tmp_path / "e"
        run("prove", store, 1, "--at", 30, "--out", receipt, "--entry", entry)
        options = ("check-receipt", receipt, entry, "--agreement", agreement)
        assert_one_line(run(*options), "expected one of --log-key and --vouch, found none")
        assert_one_line(run(*options, "--log-key", "elsewhere+00000000+AAAA"), "--log-key: ")
        assert_one_line(run(*options, "--vouch", receipt), "expected evidence that the agreement accepts")


def rows(*args: object) -> list[str]:
    result = run("show", *args)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def indices(*args: object) -> list[int]:
    return [int(row.split()[0]) for row in rows(*args)]


class TestShow:
    def test_by_number(self, store: Path) -> None:
        assert indices(store, "--entries", "3..5") == [3, 4, 5]
        assert indices(store, "--entries", "32..") == [32, 33]
        assert indices(store, "--entries", "..1") == [0, 1]
        assert indices(store, "--entries", "30..99") == [30, 31, 32, 33]

    def test_by_kind(self, store: Path) -> None:
        kinds = {row.split()[3] for row in rows(store, "--kind", "round.opened", "--kind", "log.closed")}
        assert kinds == {"round.opened", "log.closed"}

    def test_by_silo_which_may_be_one_of_a_cohort(self, store: Path) -> None:
        found = rows(store, "--silo", "silo-4")
        assert all("silo-4" in row for row in found)
        assert {row.split()[3] for row in found} == {
            "silo.admitted",
            "update.accepted",
            "round.committed",
            "round.published",
        }

    def test_by_round(self, store: Path) -> None:
        found = rows(store, "--round", 2, "--kind", "round.published")
        assert len(found) == 1
        assert "round 2 attempt" in found[0]

    def test_by_time(self, store: Path) -> None:
        times = [entry.time for entry in HONEST.entries]  # type: ignore[union-attr]
        expected = [index for index, time in enumerate(times) if times[5] <= time < times[9]]
        assert indices(store, "--since", times[5], "--until", times[9]) == expected
        assert indices(store, "--since", "2026-01-01T00:00:06", "--until", "2026-01-01T01:00:10+01:00") == expected
        assert indices(store, "--since", "2026-01-01") == list(range(34))

    def test_filters_are_joined_and_json_is_filtered_alike(self, store: Path) -> None:
        lines = rows(store, "--json", "--kind", "update.accepted", "--silo", "silo-0", "--entries", "10..")
        found = [json.loads(line) for line in lines]
        assert {(item["entry"]["kind"], item["entry"]["silo"]) for item in found} == {("update.accepted", "silo-0")}
        assert all(item["index"] >= 10 for item in found)

    def test_nothing_is_nothing_and_says_so(self, store: Path) -> None:
        for arguments in (("--silo", "silo-9"), ("--kind", "no.such"), ("--entries", "34..")):
            result = run("show", store, *arguments)
            assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no entry matches\n")

    @pytest.mark.parametrize(
        "arguments",
        [("--entries", "5"), ("--entries", "5..3"), ("--since", "yesterday"), ("--until", "2026-13-01")],
    )
    def test_a_filter_that_is_none_is_refused_in_words(self, store: Path, arguments: tuple[str, str]) -> None:
        assert_one_line(run("show", store, *arguments), f"{arguments[0]}: expected")

    def test_bundles_before_the_first_number_are_not_even_read(self, tmp_path: Path) -> None:
        """Nor are those behind the last."""
        from audit.log import LogWriter
        from audit.store import MemoryStore

        memory = MemoryStore()
        writer = LogWriter.create(memory, AGREEMENT.log.origin, LOG_KEY)
        writer.append([b'{"kind":"x","n":%d,"version":1}' % i for i in range(600)])
        store = to_directory(memory, tmp_path / "long")
        for name in ("000", "002.p/88"):
            (store / "log/tile/entries" / name).unlink()
        assert indices(store, "--entries", "256..511") == list(range(256, 512))
        assert_one_line(run("show", store, "--entries", "..3"), "log/tile/entries/000")
