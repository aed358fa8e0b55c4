"""Comparing, convicting, receipts and succession where the log's key was rotated on the way."""

from dataclasses import replace
from pathlib import Path

import pytest
from audit_history import LOG_KEY, Told, agreement_text, to_directory
from click.testing import CliRunner, Result
from forked_logs import forked
from memory_federation import MemoryFederation
from rotated_history import AGREEMENT, HONEST
from successions import ended, successor_of

from audit.entries import KeyRotated, LogGenesis, parse_entry
from audit.log import LogReader
from audit.log_files import LogFiles
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.report import AuditVerdict
from audit.verify import verify
from protocol.layout import Section
from strongroom.cli import cli

FIRST_CHANGE = HONEST.index(KeyRotated)
NEWEST = len(HONEST.entries)


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


def cosigned_everywhere(history: Told) -> Told:
    silos = ("silo-0", "silo-2", "silo-3")
    return replace(history, batches=tuple(replace(batch, cosigners=silos) for batch in history.batches))


@pytest.mark.parametrize("size", [FIRST_CHANGE, FIRST_CHANGE + 3, FIRST_CHANGE + 5])
def test_an_older_log_is_extended_by_the_newer_one(size: int, store: Path, tmp_path: Path, agreement: Path) -> None:
    older = to_directory(HONEST.until(size).store(), tmp_path / "older")
    result = run("compare", older, store, "--agreement", agreement)
    assert result.exit_code == 0, result.output
    assert "proved" in result.output


def test_a_fork_after_a_rotation_convicts(store: Path, tmp_path: Path, agreement: Path) -> None:
    fork = to_directory(forked(NEWEST - 2, HONEST).store(), tmp_path / "fork")
    proof = tmp_path / "fork.fraud"
    assert run("compare", store, fork, "--agreement", agreement, "--out", proof).exit_code == 1
    assert run("verify-fraud", proof, "--agreement", agreement).exit_code == 0


def test_a_fork_whose_heads_are_under_two_keys_convicts_if_both_are_cosigned(tmp_path: Path, agreement: Path) -> None:
    """The one stopped before the rotation, the other went through it."""
    history = cosigned_everywhere(HONEST)
    one = to_directory(forked(3, history.until(FIRST_CHANGE)).store(), tmp_path / "one")
    other = to_directory(history.store(), tmp_path / "other")
    proof = tmp_path / "fork.fraud"
    result = run("compare", one, other, "--agreement", agreement, "--out", proof)
    assert result.exit_code == 1, result.output
    assert run("verify-fraud", proof, "--agreement", agreement).exit_code == 0


@pytest.mark.parametrize("size", [FIRST_CHANGE, FIRST_CHANGE + 3, NEWEST])
def test_a_receipt_from_before_and_from_after(size: int, store: Path, tmp_path: Path, agreement: Path) -> None:
    receipt, entry = tmp_path / "r.tlog-proof", tmp_path / "entry.json"
    proved = run("prove", store, 1, "--at", size, "--out", receipt, "--entry", entry)
    assert proved.exit_code == 0, proved.output
    result = run("check-receipt", receipt, entry, "--agreement", agreement, "--vouch", store)
    assert result.exit_code in (0, 3), result.output
    assert f"under its head of {size} entries" in result.output


def test_a_receipt_by_a_retired_key_shows_nothing(store: Path, tmp_path: Path, agreement: Path) -> None:
    reader = LogReader(HONEST.store())
    honest = reader.receipt(1)
    forged = Receipt(
        index=1,
        proof=honest.proof,
        checkpoint=Checkpoint.sign(AGREEMENT.log.origin, honest.checkpoint.head, LOG_KEY),
    )
    receipt, entry = tmp_path / "r.tlog-proof", tmp_path / "entry.json"
    receipt.write_bytes(forged.encode())
    entry.write_bytes(reader.entry(1))
    result = run("check-receipt", receipt, entry, "--agreement", agreement, "--vouch", store)
    assert result.exit_code == 1
    assert f"signed with a key that was retired at entry {FIRST_CHANGE}" in result.output


@pytest.mark.parametrize("when", ["before the end", "with the end", "after the end"])
def test_a_federation_goes_on_from_a_log_whose_key_was_rotated(when: str) -> None:
    federation = MemoryFederation(replace={"rounds = 40": "rounds = 2"})
    federation.enrol_all()
    federation.run(until=lambda: federation.enclave._ledger.history.published_rounds == 1)
    if when == "before the end":
        federation.boot(rotate_log_key=True)
    new = successor_of(federation)
    ended(federation, new)
    if when == "after the end":
        federation.boot(rotate_log_key=True)
    following = MemoryFederation(agreement=new, predecessor=federation.store)
    following.initial[Section.PARAMETERS].copy_(federation.silos["silo-0"].models[-1])
    genesis = parse_entry(next(iter(LogReader(following.store).entries())))
    assert isinstance(genesis, LogGenesis)
    assert genesis.predecessor is not None
    following.enrol_all()
    following.run()
    for made in (federation, following):
        report = verify(LogFiles(made.store), made.agreement)
        assert report.verdict is AuditVerdict.PASS, (report.divergence, report.missing)
