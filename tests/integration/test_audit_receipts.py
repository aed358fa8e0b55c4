"""What silos kept, held against the log: `strongroom audit verify --receipts`."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from audit_forgery import AGREEMENT, HONEST, at
from audit_history import LOG_KEY, Told, agreement_text, identity, to_directory
from click.testing import CliRunner, Result

from audit import receipt_files
from audit.entries import LogClosed, RoundPublished, SiloAdmitted, UpdateAccepted
from audit.kept import Kept
from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.merkle import Tree, TreeHead, inclusion_proof, leaf_hash, root_hash
from audit.note import Checkpoint
from audit.proof import Receipt
from audit.receipt_files import HandedIn, NotUnderstood, receipts_below, sorted_by_log
from audit.report import AuditReport, AuditVerdict, Line
from audit.resources import checkpoint_name
from audit.store import MemoryStore
from audit.verify import verify
from protocol.keys import SigningKey
from strongroom.cli import cli

PASS, FAIL, INCOMPLETE = AuditVerdict.PASS, AuditVerdict.FAIL, AuditVerdict.INCOMPLETE
ORIGIN = AGREEMENT.log.origin
STORE = HONEST.store()


def receipt(index: int, size: int | None = None, history: Told = HONEST, name: str = "") -> HandedIn:
    """An entry's receipt as its silo got it: under the checkpoint that covered it first, or under one of a size."""
    sizes = [len(history.until(n).entries) for n in range(len(history.entries) + 1)]
    at_size = size or next(n for n in sizes if n > index)
    writer = LogWriter.open(history.until(at_size).store(), ORIGIN, LOG_KEY)
    return HandedIn(name=name or f"{index:08d}", entry=writer.entry(index), proof=writer.receipt(index).encode())


def all_receipts(history: Told = HONEST) -> list[HandedIn]:
    kinds = (SiloAdmitted, UpdateAccepted, RoundPublished, LogClosed)
    return [receipt(i, history=history) for i, entry in enumerate(history.entries) if isinstance(entry, kinds)]


def audit(*files: HandedIn | NotUnderstood, store: MemoryStore = STORE) -> AuditReport:
    return verify(LogFiles(store), AGREEMENT, receipts=files)


def kept(report: AuditReport) -> Kept:
    if report.kept is None:
        raise AssertionError("the audit was given receipts")
    return report.kept


def test_receipts_of_all_silos_are_of_one_history() -> None:
    files = all_receipts()
    report = audit(*files)
    assert report.verdict is PASS
    assert (kept(report).files, kept(report).held) == (len(files), len(files))
    silos = {silo.silo: silo for silo in kept(report).silos}
    assert {name: (silo.updates, silo.accepted) for name, silo in silos.items()} == {
        "silo-0": (4, 4),
        "silo-1": (1, 1),
        "silo-2": (2, 2),
        "silo-3": (0, 0),
        "silo-4": (1, 1),
    }
    # Its update in the attempt below the minimum, and that of the attempt which a restart interrupted.
    assert [(item.round, item.attempt, item.fate) for item in silos["silo-0"].unused] == [
        (1, 1, "abandoned (below-minimum-cohort)"),
        (2, 1, "abandoned (restart)"),
    ]
    assert silos["silo-2"].unused == ()
    assert str(silos["silo-0"]) == "silo-0: 6 receipts, of 4 of its 4 accepted updates; 2 used, 2 not"


def test_a_receipt_under_a_later_checkpoint_does_as_well_and_counts_once() -> None:
    index = at(UpdateAccepted)
    report = audit(receipt(index), receipt(index, len(HONEST.entries), name="again"))
    assert report.verdict is PASS
    assert kept(report).held == 2
    assert [(silo.receipts, silo.updates) for silo in kept(report).silos] == [(1, 1)]


def test_an_update_that_the_log_leaves_open() -> None:
    size = at(UpdateAccepted, 4) + 1
    history = HONEST.until(size)
    report = audit(*all_receipts(history), store=history.store())
    (silo,) = [silo for silo in kept(report).silos if silo.silo == "silo-0"]
    assert silo.unused[-1].fate == "neither used nor abandoned where the log ends"


def test_silos_that_keep_nothing_are_no_fault() -> None:
    report = audit()
    assert report.verdict is PASS
    assert (kept(report).files, kept(report).held, kept(report).silos) == (0, 0, ())
    assert verify(LogFiles(STORE), AGREEMENT).kept is None


# Two histories, or a log that was cut


def another_history() -> Told:
    """The same beginning, and another update."""
    return HONEST.with_fields(at(UpdateAccepted), upload_id=b"another upload i")


def test_a_receipt_for_another_entry() -> None:
    report = audit(receipt(at(UpdateAccepted), history=another_history(), name="silo-0/of-the-other"))
    assert report.verdict is FAIL
    assert report.divergence is not None
    assert (report.divergence.resource, report.divergence.line) == ("silo-0/of-the-other", Line.TRUST)
    assert f"this log has another entry at {at(UpdateAccepted)}" in report.divergence.problem
    assert "two histories" in report.divergence.problem
    assert kept(report).held == 0


def test_a_receipt_for_the_same_entry_in_another_history() -> None:
    """Its entry comes before the fork, its checkpoint after: the log still showed somebody else something else."""
    report = audit(receipt(at(SiloAdmitted), at(UpdateAccepted) + 1, another_history(), name="forked"))
    assert report.verdict is FAIL
    assert f"this log has this entry at {at(SiloAdmitted)}" in str(report.divergence)


def test_silos_of_two_histories_in_one_folder() -> None:
    mine, other = all_receipts(), all_receipts(another_history())
    report = audit(*mine, *(replace(file, name=f"other/{file.name}") for file in other))
    assert report.verdict is FAIL
    assert {finding.resource for finding in report.damage} == {
        f"other/{file.name}" for file in other if int(file.name) >= at(UpdateAccepted)
    }
    assert kept(report).held == len(mine) + sum(int(file.name) < at(UpdateAccepted) for file in other)


def test_a_log_that_was_cut_behind_a_receipt() -> None:
    index = at(UpdateAccepted, -1)
    report = audit(receipt(index), store=HONEST.until(index).store())
    assert report.verdict is FAIL
    assert f"{index:08d}: this log had {index + 1} entries once, and now has {index}" in str(report.divergence)
    assert "rolled back, or cut" in str(report.divergence)


def test_a_checkpoint_that_the_store_has_lost() -> None:
    index = at(UpdateAccepted)
    store = HONEST.store()
    store.delete(checkpoint_name(index + 1))
    report = audit(receipt(index), store=store)
    assert report.verdict is INCOMPLETE
    assert kept(report).held == 1
    found = [item for item in report.missing if item.resource == checkpoint_name(index + 1)]
    assert any(f"as the one in {index:08d} is of this size" in item.problem for item in found)


# What proves nothing: whoever hands it in can't make an honest log fail


def changed(file: HandedIn, **changes: object) -> HandedIn:
    parsed = Receipt.parse(file.proof)
    return replace(file, proof=replace(parsed, **changes).encode())


def signed(head: TreeHead, key: SigningKey = LOG_KEY, origin: str = ORIGIN) -> Checkpoint:
    return Checkpoint.sign(origin, head, key)


GOOD = receipt(at(UpdateAccepted))
HEAD = Receipt.parse(GOOD.proof).checkpoint.head
FORGER = identity("forger")


def made_up(size: int) -> HandedIn:
    """The last leaf of a tree of that many, by somebody who has no log: all other leaves are hashes that he chose."""
    entry, leaves = b"made up", Tree()
    for _ in range(size - 1):
        leaves.append(bytes(32))
    leaves.append(leaf_hash(entry))
    checkpoint = signed(TreeHead(size=size, root=root_hash(leaves, size)), FORGER)
    proof = Receipt(index=size - 1, proof=tuple(inclusion_proof(leaves, size - 1, size)), checkpoint=checkpoint)
    return HandedIn(name="made up", entry=entry, proof=proof.encode())


NOTHING = {
    "another entry under its proof": (replace(GOOD, entry=b"{}"), ""),
    "one bit of the entry": (replace(GOOD, entry=GOOD.entry[:-2] + b"!}"), ""),
    "a proof cut short": (changed(GOOD, proof=Receipt.parse(GOOD.proof).proof[:-1]), ""),
    "another index": (changed(GOOD, index=at(UpdateAccepted) - 1), ""),
    "a tree of somebody's own": (made_up(5), "signature"),
    "a larger tree of somebody's own": (made_up(1000), "signature"),
    "signed by somebody else": (changed(GOOD, checkpoint=signed(HEAD, FORGER)), "signature"),
    "of another log": (changed(GOOD, checkpoint=signed(HEAD, origin="another.example/log")), "another.example/log"),
    "no receipt": (HandedIn(name="junk", entry=b"", proof=b"\xff\xfe"), "receipt"),
    "a file that is none": (NotUnderstood(name="readme.txt", problem="found another file"), "found another file"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_proves_nothing_is_named_and_convicts_nobody(name: str) -> None:
    file, words = NOTHING[name]
    report = audit(GOOD, file)
    assert report.verdict is INCOMPLETE
    assert report.damage == ()
    (missing,) = report.missing
    assert missing.resource == file.name
    assert words in missing.problem
    assert str(missing).isprintable()
    assert kept(report).held == 1


def test_a_cosignature_that_is_false_in_a_receipt_convicts_nobody() -> None:
    """Anybody can add a line; the log's own signature is what counts."""
    parsed = Receipt.parse(GOOD.proof)
    line = parsed.checkpoint.cosign(f"{ORIGIN}/silo-0", identity("silo-0"), time=1)
    broken = replace(line, payload=line.payload[:-1] + bytes([line.payload[-1] ^ 1]))
    report = audit(changed(GOOD, checkpoint=parsed.checkpoint.with_signatures([broken])))
    assert report.verdict is PASS


def test_a_damaged_log_is_blamed_and_not_the_receipt() -> None:
    store = HONEST.store()
    name = next(name for name in store.list("log/tile/entries/") if name.endswith(str(len(HONEST.entries))))
    data = bytearray(store.read(name))
    data[data.index(b"update.accepted")] ^= 1
    store.write(name, bytes(data))
    report = audit(*all_receipts(), store=store)
    assert report.verdict is FAIL
    assert report.damage
    assert not {finding.resource for finding in report.damage} & {file.name for file in all_receipts()}


# What was not checked follows from what was given


def test_what_was_not_checked_follows_from_what_was_given() -> None:
    head = {"ours": Checkpoint.parse(STORE.read("log/checkpoint"))}

    def said(**given: object) -> str:
        return "\n".join(verify(LogFiles(STORE), AGREEMENT, **given).not_checked)  # type: ignore[arg-type]

    assert "(--head, --receipts)" in said()
    assert "(--receipts)" in said(kept=head)
    assert "beyond what 1 checkpoint show" in said(kept=head)
    both = said(kept=head, receipts=[GOOD])
    assert "beyond what 1 checkpoint and 1 receipt show" in both
    assert "--receipts" not in both
    assert "--head" not in both


# The folder


def keep(folder: Path, file: HandedIn) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{file.name}.entry.json").write_bytes(file.entry)
    (folder / f"{file.name}.tlog-proof").write_bytes(file.proof)


def test_a_folder_of_any_layout(tmp_path: Path) -> None:
    keep(tmp_path, GOOD)
    keep(tmp_path / "silo 0" / "of\nAugust" / "receipts", GOOD)
    (tmp_path / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.tlog-proof").write_bytes(b"hidden")
    found = list(receipts_below(tmp_path))
    assert [type(file) for file in found] == [HandedIn, HandedIn]
    assert all(file.name.isprintable() for file in found)
    assert {(file.entry, file.proof) for file in found if isinstance(file, HandedIn)} == {(GOOD.entry, GOOD.proof)}


def test_what_is_no_receipt_is_named(tmp_path: Path) -> None:
    keep(tmp_path / "good", GOOD)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "half.tlog-proof").write_bytes(GOOD.proof)
    (tmp_path / "other.entry.json").write_bytes(GOOD.entry)
    (tmp_path / "link.tlog-proof").symlink_to(tmp_path / "half.tlog-proof")
    (tmp_path / "folder").symlink_to(tmp_path / "good")
    keep(tmp_path, HandedIn(name="large", entry=bytes(65_536), proof=GOOD.proof))
    (tmp_path / "pipe.entry.json").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.tlog-proof")
    found = {file.name.removeprefix(f"{tmp_path}/"): file for file in receipts_below(tmp_path)}
    problems = {name: file.problem for name, file in found.items() if isinstance(file, NotUnderstood)}
    assert problems == {
        "readme.txt": "expected *.entry.json or *.tlog-proof, found another file",
        "half.tlog-proof": "expected its .entry.json beside it, found none",
        "other.entry.json": "expected its .tlog-proof beside it, found none",
        "link.tlog-proof": "expected a receipt, found a symbolic link",
        "folder": "expected a receipt, found a symbolic link",
        "large.tlog-proof": "expected at most 65535 bytes, found more",
        "pipe.tlog-proof": "expected a receipt, found neither file nor folder",
        "pipe.entry.json": "expected its .tlog-proof beside it, found none",
    }
    assert len(found) == len(problems) + 1


def test_a_folder_that_is_too_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_files, "MAXIMUM_FILES", 2)
    keep(tmp_path, GOOD)
    assert [type(file) for file in receipts_below(tmp_path)] == [HandedIn]
    (tmp_path / "zzz").write_bytes(b"")
    found = list(receipts_below(tmp_path))
    assert isinstance(found[-1], NotUnderstood)
    assert "expected at most 2 files, found more" in found[-1].problem


# From the command line


def run(tmp_path: Path, *options: object) -> Result:
    (tmp_path / "federation.toml").write_text(agreement_text())
    to_directory(STORE, tmp_path / "store")
    arguments = ["audit", "verify", tmp_path / "store", "--agreement", tmp_path / "federation.toml", *options]
    return CliRunner().invoke(cli, [str(item) for item in arguments])


def test_from_the_command_line(tmp_path: Path) -> None:
    for file in all_receipts():
        silo = getattr(HONEST.entries[int(file.name)], "silo", "everybody")
        keep(tmp_path / "receipts" / silo, file)
    result = run(
        tmp_path, "--receipts", tmp_path / "receipts" / "silo-0", "--receipts", tmp_path / "receipts" / "silo-1"
    )
    assert result.exit_code == 0, result.output
    assert "Receipts: 9 of this history, in 9 files or pairs of files" in result.output
    assert "silo-0: 6 receipts, of 4 of its 4 accepted updates; 2 used, 2 not" in result.output
    assert "round 2 attempt 1: abandoned (restart)" in result.output
    found = json.loads(run(tmp_path, "--receipts", tmp_path / "receipts", "--json").output)
    assert found["receipts"]["held"] == found["receipts"]["files"] == len(all_receipts())
    (tmp_path / "receipts" / "readme.txt").write_text("hello")
    result = run(tmp_path, "--receipts", tmp_path / "receipts")
    assert result.exit_code == 2
    assert "readme.txt: expected *.entry.json or *.tlog-proof" in result.output


def test_two_histories_from_the_command_line(tmp_path: Path) -> None:
    keep(tmp_path / "receipts", receipt(at(UpdateAccepted), history=another_history(), name="theirs"))
    result = run(tmp_path, "--receipts", tmp_path / "receipts")
    assert result.exit_code == 1
    assert result.output.splitlines()[1].startswith(
        f"first divergence: {tmp_path}/receipts/theirs: this log has another"
    )


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = run(tmp_path, "--receipts", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "expected a readable directory" in result.output


def test_receipts_of_several_logs_go_to_the_log_that_they_name() -> None:
    """After a succession a silo's folders hold receipts of both logs; what is of neither is named by the newest."""
    old = "another.example/log"
    theirs = replace(changed(GOOD, checkpoint=signed(HEAD, origin=old)), name="theirs")
    junk = NotUnderstood(name="readme.txt", problem="found another file")
    stranger = replace(changed(GOOD, checkpoint=signed(HEAD, origin="third.example/log")), name="stranger")
    files = [GOOD, theirs, junk, stranger]
    newest = sorted_by_log(files, origin=ORIGIN, others=frozenset({old}), takes_the_rest=True)
    assert list(newest) == [GOOD, junk, stranger]
    assert list(sorted_by_log(files, origin=old, others=frozenset({ORIGIN}), takes_the_rest=False)) == [theirs]
