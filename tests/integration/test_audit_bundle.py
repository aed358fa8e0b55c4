"""`strongroom audit bundle`: one file that says of a log what its store says, byte by byte, wherever it came from."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from audit_history import LOG_KEY, Recorder, agreement_of, agreement_text, to_directory
from audit_tampering import AGREEMENT, LONG, SHORT, copy_of
from bundled import bundle_of, members_of, opened
from click.testing import CliRunner, Result

from audit.entries import RoundOpened
from audit.log import LogWriter
from audit.log_files import LogFiles
from audit.report import AuditReport, AuditVerdict
from audit.resources import object_name
from audit.store import MemoryStore, StoreError
from audit.verify import verify
from protocol.errors import MalformedError, ProtocolError
from strongroom.cli import cli

STORE = LONG.store()
BUNDLE = bundle_of(STORE, AGREEMENT)


def audit(data: bytes) -> AuditReport:
    return verify(LogFiles(opened(data)), AGREEMENT)


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["audit", *map(str, args)])


def believed(data: bytes) -> bool:
    """Whether a bundle is read and passes."""
    try:
        return audit(data).verdict is AuditVerdict.PASS
    except ProtocolError:
        return False


def flipped(data: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def test_it_says_what_the_store_says() -> None:
    assert audit(BUNDLE) == verify(LogFiles(STORE), AGREEMENT)
    assert audit(BUNDLE).verdict is AuditVerdict.PASS


def test_the_same_log_makes_the_same_bytes() -> None:
    store = copy_of(STORE)
    store.write("log/objects/sha256/aa/" + "aa" * 32, b"an object that no entry names")
    store.write("log/tile/0/001.p/3", b"what a crash left")
    store.write("log/notes", b"no file of a log")
    assert bundle_of(store, AGREEMENT) == BUNDLE
    assert bundle_of(store, AGREEMENT, upto=34) == BUNDLE


@pytest.mark.parametrize("size", [2, 3, 5, 34])
def test_it_ends_at_an_older_checkpoint_as_if_the_log_had_ended_there(size: int) -> None:
    then = LONG.until(size)
    assert bundle_of(STORE, AGREEMENT, upto=size) == bundle_of(then.store(), AGREEMENT)
    assert audit(bundle_of(STORE, AGREEMENT, upto=size)).verdict is AuditVerdict.PASS


def test_a_log_that_goes_on_meanwhile_makes_the_bundle_of_where_it_began() -> None:
    """Here it grows over a tile's end, and what the bundle needs is pruned, after the first byte was written."""
    recorder = Recorder(agreement_of(lambda text: text.replace("rounds = 2", "rounds = 90")))
    recorder.batch(recorder.genesis(), recorder.started())
    while recorder.history.size < 250:
        recorder.batch(*(recorder.admitted("silo-4"),))
    store = MemoryStore()
    writer = LogWriter.create(store, recorder.agreement.log.origin, LOG_KEY)
    for data in recorder.objects.values():
        writer.put_object(data)
    for batch in recorder.batches:
        writer.append([entry.encode() for entry in batch.entries if not isinstance(entry, bytes)])
    quiet = bundle_of(store, recorder.agreement)
    from audit.bundling import Bundling

    pieces = Bundling(LogFiles(store), recorder.agreement).blocks()
    first = next(pieces)
    for _ in range(3):
        admitted = [recorder.admitted("silo-4") for _ in range(5)]
        for data in recorder.objects.values():
            writer.put_object(data)
        writer.append([entry.encode() for entry in admitted])
    assert not store.exists("log/tile/0/000.p/250")
    assert first + b"".join(pieces) == quiet
    assert verify(LogFiles(opened(quiet)), recorder.agreement).verdict is AuditVerdict.PASS


def test_a_checkpoint_that_a_crash_left_behind_is_completed() -> None:
    store = copy_of(STORE)
    sizes = sorted(int(name[16:-5]) for name in store.list("log/checkpoints/"))
    store.write("log/checkpoint", store.read(f"log/checkpoints/{sizes[-2]}.note"))
    assert bundle_of(store, AGREEMENT) == BUNDLE


@pytest.mark.parametrize(
    "name", ["log/checkpoint", "log/tile/0/000.p/34", "log/tile/0/000.p/5", "log/tile/entries/000.p/34"]
)
def test_a_store_with_a_gap_makes_none(name: str) -> None:
    store = copy_of(STORE)
    store.delete(name)
    with pytest.raises(StoreError, match=name):
        bundle_of(store, AGREEMENT)


def test_a_gap_that_only_a_verdict_can_name_is_in_the_bundle_too() -> None:
    for name in (object_name(AGREEMENT.digest), "log/checkpoints/3.note"):
        store = copy_of(STORE)
        store.delete(name)
        found = audit(bundle_of(store, AGREEMENT))
        assert found == verify(LogFiles(store), AGREEMENT)
        assert found.verdict is AuditVerdict.INCOMPLETE


def test_another_agreement_over_the_log_is_refused_before_anything_is_written() -> None:
    other = agreement_of(lambda text: text.replace("rounds = 2", "rounds = 3"))
    with pytest.raises(MalformedError, match=r"expected a log of agreement sha256:.*, found sha256:"):
        bundle_of(STORE, other)
    with pytest.raises(StoreError, match="one of this log's checkpoints, found 1"):
        bundle_of(STORE, AGREEMENT, upto=1)


def test_every_part_of_a_header_counts() -> None:
    """Every bit of two headers, the first and one in the middle: whatever a lenient reader would pass over."""
    places = [position for _, _, position in members_of(BUNDLE)]
    for place in (places[0], places[len(places) // 2]):
        for position in range(place, place + 512):
            with pytest.raises(MalformedError):
                opened(flipped(BUNDLE, position, position % 8))


def test_a_bit_flipped_anywhere_is_never_a_pass() -> None:
    """Each file's first, middle and last byte, its header's name and size, its padding, and the end; of a small log."""
    small = bundle_of(SHORT, AGREEMENT)
    assert believed(small)
    positions = {len(small) - 1, len(small) - 1024}
    for _, size, place in members_of(small):
        start = place + 512
        positions |= {place, place + 124, start, start + size // 2, start + size - 1}
        positions |= {start + size} if size % 512 else set()
    for position in sorted(positions):
        assert not believed(flipped(small, position, position % 8)), position


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_every_byte_of_a_bundle_counts(part: int) -> None:
    """Within objects and the agreement, which are hashed or compared whole, every 101st."""
    small = bundle_of(SHORT, AGREEMENT)
    inside = set()
    for name, size, place in members_of(small):
        if name.startswith("log/objects/") or name == "federation.toml":
            inside |= {place + 512 + offset for offset in range(size) if offset % 101}
    for position in range(part, len(small), 8):
        if position not in inside:
            assert not believed(flipped(small, position, position // 8 % 8)), position


def test_every_length_of_a_bundle_is_told_apart() -> None:
    small = bundle_of(SHORT, AGREEMENT)
    for size in range(0, len(small), 97):
        assert not believed(small[:size]), size


class TestCommand:
    @pytest.fixture
    def agreement(self, tmp_path: Path) -> Path:
        path = tmp_path / "federation.toml"
        path.write_text(agreement_text())
        return path

    @pytest.fixture
    def bundle(self, tmp_path: Path, agreement: Path) -> Path:
        store = to_directory(STORE, tmp_path / "store")
        result = run("bundle", store, "--agreement", agreement, "--out", tmp_path / "log.tar")
        assert result.exit_code == 0, result.output
        assert "34 entries" in result.output
        shutil.rmtree(store)
        return tmp_path / "log.tar"

    def test_it_verifies_where_it_lies_and_stays_as_it_is(self, bundle: Path, agreement: Path) -> None:
        assert bundle.read_bytes() == BUNDLE
        bundle.chmod(0o400)
        before = sorted(os.listdir(bundle.parent))
        result = run("verify", bundle, "--agreement", agreement)
        assert result.exit_code == 0, result.output
        assert "entries 34, checkpoints 29, boots 2" in result.output
        assert "Worth knowing" not in result.output
        assert sorted(os.listdir(bundle.parent)) == before
        assert "round.opened" in run("show", bundle).output

    def test_its_own_agreement_will_do_and_is_no_proof(self, bundle: Path) -> None:
        result = run("verify", bundle)
        assert result.exit_code == 0
        assert f"agreement sha256:{AGREEMENT.digest.hex()}: it came with the log" in result.output
        assert "compared its digest" in result.output
        assert "worth nothing until" in run("verify", bundle, "--json").output

    def test_a_store_has_no_agreement_of_its_own(self, tmp_path: Path) -> None:
        result = run("verify", to_directory(STORE, tmp_path / "store"))
        assert result.exit_code == 2
        assert "expected --agreement" in result.output

    def test_another_agreement_in_the_bundle_is_damage(self, bundle: Path, tmp_path: Path) -> None:
        other = agreement_text(lambda text: text.replace("# An example.", "# Another."))
        (tmp_path / "other.toml").write_text(other)
        result = run("verify", bundle, "--agreement", tmp_path / "other.toml")
        assert result.exit_code == 1
        assert "federation.toml: expected agreement sha256:" in result.output

    def test_a_file_that_is_there_is_not_replaced(self, bundle: Path, agreement: Path) -> None:
        result = run("bundle", bundle, "--agreement", agreement, "--out", bundle)
        assert result.exit_code == 2
        assert result.output == f"{bundle}: expected no such file, found one: choose another name, or remove it\n"

    def test_a_failure_leaves_nothing(self, tmp_path: Path, agreement: Path) -> None:
        store = to_directory(STORE, tmp_path / "store")
        (store / "log/tile/0/000.p/5").unlink()
        result = run("bundle", store, "--agreement", agreement, "--out", tmp_path / "log.tar")
        assert result.exit_code == 2
        assert "log/tile/0/000.p/5" in result.output
        assert sorted(os.listdir(tmp_path)) == ["federation.toml", "store"]

    def test_what_is_no_file_of_a_log_is_left_out_in_words(self, tmp_path: Path, agreement: Path) -> None:
        store = to_directory(STORE, tmp_path / "store")
        (store / "log/diary").write_text("dear")
        result = run("bundle", store, "--agreement", agreement, "--out", tmp_path / "log.tar")
        assert result.exit_code == 0
        assert "left out, as no log has such a file: log/diary" in result.output

    def test_a_bundle_of_a_bundle_is_the_bundle(self, bundle: Path, agreement: Path, tmp_path: Path) -> None:
        result = run("bundle", bundle, "--agreement", agreement, "--out", tmp_path / "again.tar")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "again.tar").read_bytes() == BUNDLE

    def test_any_other_file_is_refused_in_words(self, bundle: Path, agreement: Path, tmp_path: Path) -> None:
        bundle.write_bytes(BUNDLE[:-1])
        for path in (bundle, agreement):
            result = run("verify", path, "--agreement", agreement)
            assert result.exit_code == 2
            assert result.output.startswith(
                f"{path}: expected a readable directory or a bundle, found another file: bundle: at"
            )
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        assert run("verify", fifo, "--agreement", agreement).exit_code == 2

    def test_a_lie_in_it_is_named(self, agreement: Path, tmp_path: Path) -> None:
        index = LONG.index(RoundOpened)
        bundle = tmp_path / "log.tar"
        bundle.write_bytes(bundle_of(LONG.with_fields(index, local_steps=99).store(), AGREEMENT))
        result = run("verify", bundle, "--agreement", agreement)
        assert result.exit_code == 1
        assert f"entry {index} (round.opened): local steps" in result.output

    @pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
    def test_tar_opens_it_and_what_it_unpacks_passes(self, bundle: Path, agreement: Path, tmp_path: Path) -> None:
        """GNU tar writes the same bytes from what it unpacked, told to leave out owners and times."""
        folder = tmp_path / "unpacked"
        folder.mkdir()
        subprocess.run(["tar", "-xf", str(bundle), "-C", str(folder)], check=True)
        assert run("verify", folder, "--agreement", agreement).exit_code == 0
        if b"GNU tar" not in subprocess.run(["tar", "--version"], capture_output=True, check=True).stdout:
            return
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        options = ["--format=ustar", "--numeric-owner", "--owner=0", "--group=0", "--mtime=@0", "--mode=0644", "-b1"]
        made = subprocess.run(["tar", *options, "-C", str(folder), "-cf", "-", *names], capture_output=True, check=True)
        assert opened(made.stdout).size_bytes == len(BUNDLE)
        assert made.stdout == BUNDLE
