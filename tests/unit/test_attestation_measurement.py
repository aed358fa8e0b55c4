"""The measurement means something: it changes with any file of the installed code, and with nothing else."""

import json
import shutil
import subprocess
import sys
from hashlib import sha384
from pathlib import Path

import pytest

from attestation.collect.measurement import MEASURED_PACKAGES, NotMeasurable, installed_code, measure
from attestation.encoding import labelled

ROOT = Path(__file__).parents[2]
FILES = [("a/one.py", b"1"), ("a/two.py", b"2")]


def package(folder: Path, name: str, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with the package `measured_x`."""
    package(tmp_path, "measured_x", {"__init__.py": b"raise SystemExit('imported')", "b/c.py": b"", "b/key.pem": b"k"})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "measured_x"


def test_it_is_the_sha384_of_labelled_paths_and_digests() -> None:
    fields = (b"a/one.py", sha384(b"1").digest(), b"a/two.py", sha384(b"2").digest())
    assert measure(FILES) == sha384(labelled("strongroom/measurement/v1", *fields)).digest()


@pytest.mark.parametrize(
    "files",
    [
        [("a/one.py", b"1")],
        [("a/one.py", b"1"), ("a/two.py", b"2 ")],
        [("a/one.py", b"1"), ("a/tvo.py", b"2")],
        [("a/one.py", b"2"), ("a/two.py", b"1")],
        [("a/two.py", b"2"), ("a/one.py", b"1")],
        [*FILES, ("a/three.py", b"")],
    ],
)
def test_every_path_and_byte_counts(files: list[tuple[str, bytes]]) -> None:
    assert measure(files) != measure(FILES)


@pytest.mark.parametrize("files", [[], [*FILES, FILES[0]]], ids=["none", "one twice"])
def test_what_is_not_a_set_of_files_is_not_measured(files: list[tuple[str, bytes]]) -> None:
    with pytest.raises(NotMeasurable):
        measure(files)


def test_the_installed_code_is_all_of_ours_and_sorted() -> None:
    paths = [path for path, _ in installed_code()]
    assert paths == sorted(paths)
    assert {path.split("/")[0] for path in paths} == set(MEASURED_PACKAGES)
    assert "attestation/snp/amd/ark_genoa.pem" in paths
    assert "strongroom/py.typed" in paths
    assert not [path for path in paths if "__pycache__" in path]
    assert not [path for path in paths if path.startswith(("tests/", "demo/"))]


def test_a_package_is_measured_and_not_imported(installed: Path) -> None:
    assert list(installed_code(["measured_x"])) == [
        ("measured_x/__init__.py", b"raise SystemExit('imported')"),
        ("measured_x/b/c.py", b""),
        ("measured_x/b/key.pem", b"k"),
    ]
    assert "measured_x" not in sys.modules


def test_compiled_bytecode_does_not_count_where_python_keeps_it(installed: Path) -> None:
    before = measure(installed_code(["measured_x"]))
    package(installed, "b", {"__pycache__/c.cpython-311.pyc": b"\0"})
    assert measure(installed_code(["measured_x"])) == before


@pytest.mark.parametrize("path", ["evil.py", "evil.pyc", "b/evil.so", "b/.hidden", "b/data.json"])
def test_anything_that_could_be_run_or_read_counts(installed: Path, path: str) -> None:
    before = measure(installed_code(["measured_x"]))
    package(installed, "", {path: b""})
    assert measure(installed_code(["measured_x"])) != before


@pytest.mark.parametrize("name", ["linked.py", "linked"])
def test_a_symbolic_link_is_not_measurable(installed: Path, name: str) -> None:
    (installed / name).symlink_to(installed / ("b/c.py" if name.endswith(".py") else "b"))
    with pytest.raises(NotMeasurable, match=f"measured_x/{name}: expected a file or a folder, found a symbolic link"):
        list(installed_code(["measured_x"]))


def test_a_missing_or_split_package_is_not_measurable(
    installed: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotMeasurable, match="measured_y: expected one folder, found none"):
        list(installed_code(["measured_y"]))
    (installed / "__init__.py").unlink()
    other = tmp_path_factory.mktemp("other")
    package(other, "measured_x", {"more.py": b""})
    monkeypatch.syspath_prepend(other)
    with pytest.raises(NotMeasurable, match=r"measured_x: expected one folder, found .*, "):
        list(installed_code(["measured_x"]))


def test_a_copy_elsewhere_measures_the_same_and_a_changed_one_does_not(tmp_path: Path) -> None:
    """As a wheel would lie in site-packages; measured by a process of its own, which loads nothing heavy."""
    for name in MEASURED_PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True\n"
        "from attestation.collect import measurement\n"
        "measured = measurement.measure(measurement.installed_code()).hex()\n"
        "print(json.dumps([measured, measurement.__file__, sorted(sys.modules)]))"
    )

    def measured_elsewhere() -> str:
        result = subprocess.run(
            [sys.executable, "-I", "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
        )
        measured, file, modules = json.loads(result.stdout)
        assert file.startswith(str(tmp_path))
        assert not {"torch", "numpy", "grpc", "appliance", "silo_client", "strongroom"} & set(modules)
        return measured

    assert measured_elsewhere() == measure(installed_code()).hex()
    (tmp_path / "appliance" / "enclave" / "__init__.py").write_bytes(b"# another enclave\n")
    assert measured_elsewhere() != measure(installed_code()).hex()
