"""The simulated launch measurement: SHA-384 over the installed files of our own packages.

A real TEE's firmware measures the image before it runs; here the code measures itself, which proves nothing about a
host that lies, and catches every honest mistake: two parties with different code refuse each other.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha384
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attestation.encoding import labelled

MEASURED_PACKAGES: Final = ("appliance", "attestation", "audit", "protocol", "silo_client", "strongroom")
_BYTECODE_FOLDER = "__pycache__"


class NotMeasurable(Exception):
    """The installed code cannot be measured as a whole: a package is missing, split, or reaches out of its folder."""


def measure(files: Iterable[tuple[str, bytes]]) -> bytes:
    """The measurement (48 bytes) of files given as (path, content): SHA-384 over labelled paths and content digests.

    The order counts. Raises `NotMeasurable` if there are no files, or one path twice.
    """
    fields: list[bytes] = []
    seen: set[str] = set()
    for path, content in files:
        if path in seen:
            raise NotMeasurable(f"{path}: expected each path once, found it twice")
        seen.add(path)
        fields += [path.encode(), sha384(content).digest()]
    if not fields:
        raise NotMeasurable("files: expected at least one, found none")
    return sha384(labelled("strongroom/measurement/v1", *fields)).digest()


def installed_code(packages: Iterable[str] = MEASURED_PACKAGES) -> Iterator[tuple[str, bytes]]:
    """Every file of our packages as installed, as (path, content), sorted by path.

    Paths start with the package's name and use `/`, so that a wheel and an editable install of the same files measure
    the same. Left out is compiled bytecode in `__pycache__` alone; a `.pyc` elsewhere could be imported and is
    measured. No package is imported. Raises `NotMeasurable` for a package that is missing or spread over several
    folders, and for symbolic links, through which unmeasured files could be run.
    """
    found = sorted((path, file) for package in packages for path, file in _files(package, _folder(package)))
    for path, file in found:
        yield path, file.read_bytes()


def _folder(package: str) -> Path:
    spec = find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec is not None else []
    if len(locations) != 1:
        raise NotMeasurable(f"{package}: expected one folder, found {', '.join(locations) or 'none'}")
    return Path(locations[0])


def _files(prefix: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in folder.iterdir():
        path = f"{prefix}/{entry.name}"
        if entry.is_symlink():
            raise NotMeasurable(f"{path}: expected a file or a folder, found a symbolic link")
        if entry.is_dir():
            if entry.name != _BYTECODE_FOLDER:
                yield from _files(path, entry)
        elif entry.is_file():
            yield path, entry
