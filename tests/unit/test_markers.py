"""The search for planted secrets finds all of them, in every form and place, and nothing else."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import process_search
import pytest
import torch
from markers import OVERLAP_BYTES, Kind, Markers
from process_search import files, memory, new_files, open_files, started_with

MARKERS = Markers(1)
KINDS = list(Kind)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_sixteen_bytes_of_a_marker_are_found(kind: Kind) -> None:
    data = MARKERS.data(kind)
    for start in range(len(data) - 15):
        assert MARKERS.markers_in([b"x" * 3 + data[start : start + 16] + b"y" * 5]) == {str(kind)}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_so_is_what_equations_and_hashes_make_of_it(kind: Kind) -> None:
    numbers = MARKERS.numbers(kind)
    for made in (-numbers / 8, numbers.double(), -4 * numbers.double(), numbers.view(torch.int64)):
        assert MARKERS.markers_in([made.numpy().tobytes()]) == {str(kind)}
    assert MARKERS.markers_in([numbers.numpy().byteswap().tobytes()]) == {str(kind)}


@pytest.mark.parametrize("kind", [Kind.UPDATE, Kind.REFUSED], ids=str)
def test_and_the_squares_of_a_norm(kind: Kind) -> None:
    assert MARKERS.markers_in([MARKERS.numbers(kind).double().square().numpy().tobytes()]) == {str(kind)}


@pytest.mark.parametrize("kind", [Kind.CONTENT_KEY, Kind.SEALING_KEY], ids=str)
@pytest.mark.parametrize("size", [32, 96])
def test_keys_are_found_and_are_never_the_same(kind: Kind, size: int) -> None:
    keys = {MARKERS.key(kind, size) for _ in range(100)}
    assert {len(key) for key in keys} == {size}
    assert len(keys) == 100
    assert all(MARKERS.markers_in([key]) == {str(kind)} for key in keys)


def test_nothing_is_found_in_other_numbers() -> None:
    every = torch.cat([MARKERS.numbers(kind) for kind in Kind])
    for other in (every / 3, every + 1e-3, torch.zeros(10_000), torch.arange(10_000.0)):
        assert MARKERS.markers_in([other.numpy().tobytes(), other.double().numpy().tobytes()]) == set()
    assert MARKERS.markers_in([os.urandom(2**20)]) == set()


def test_nor_in_another_runs_markers() -> None:
    others = [Markers(seed) for seed in range(2, 12)]
    assert MARKERS.markers_in([other.data(kind) for other in others for kind in Kind]) == set()


def test_words_are_found_whole() -> None:
    markers = Markers(3)
    markers.learn("a name", b"a.metrics.name")
    assert markers.found_in([b"...a.metrics.name...", markers.data(Kind.MODEL)]) == {"a name", str(Kind.MODEL)}
    assert markers.found_in([b"...a.metrics.nam", b"e..."]) == set()


def test_memory_is_searched_across_the_ends_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_search, "_PIECE_BYTES", PAGE_BYTES)
    monkeypatch.setattr(process_search, "_ZEROS", bytes(PAGE_BYTES + OVERLAP_BYTES))
    secret, held = os.urandom(16), torch.zeros(300 * PAGE_BYTES, dtype=torch.uint8)
    for end in range(PAGE_BYTES - held.data_ptr() % PAGE_BYTES, held.numel() - PAGE_BYTES, PAGE_BYTES):
        held[end - 8 : end + 8] = torch.frombuffer(bytearray(secret), dtype=torch.uint8)
    assert sum(secret in piece for piece in memory(os.getpid())) >= 298


def test_a_file_without_a_name_is_searched_and_one_in_a_folder_that_is_searched_anyway_is_not(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as unnamed, (tmp_path / "named").open("w+b") as named:
        for file, data in ((unnamed, b"without"), (named, b"with")):
            file.write(data)
            file.flush()
        found = list(open_files(os.getpid(), but_in=tmp_path))
        assert b"without" in found
        assert b"with" not in found
    assert list(files(tmp_path)) == [b"with"]
    assert list(new_files(0, tmp_path)) == [b"with"]
    assert list(new_files((tmp_path / "named").stat().st_mtime + 10, tmp_path)) == []


def test_what_a_process_was_started_with_is_searched() -> None:
    code = "import sys; print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-I", "-c", code, "an-argument"]
    with subprocess.Popen(arguments, env={"A": "B"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = b"".join(started_with(child.pid))
        child.communicate()
    assert b"an-argument\0" in found
    assert b"A=B\0" in found
