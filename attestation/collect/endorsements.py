"""Endorsements that the hardware doesn't hand out: a folder of files that whoever runs the machine keeps up to date.

Certificates of signing keys, revocation lists, Intel's collateral, key sets of token services. They are verified by the
other side, under roots of its own: a wrong file makes evidence that is refused, a missing one evidence that could not
be checked. Read afresh for every piece of evidence, because lists and collateral age.
"""

import os
import stat
from pathlib import Path
from typing import Final

from attestation.collect.errors import CollectionFailed
from attestation.errors import EvidenceMalformed
from attestation.evidence import MAXIMUM_ENDORSEMENTS
from attestation.recognise import endorsements_in

MAXIMUM_FILES: Final = 64
LARGEST_FILE_BYTES: Final = 128 * 1024
LARGEST_SUM_BYTES: Final = 160 * 1024
"""Of a folder: what still fits into encoded evidence beside the report."""


class EndorsementFolder:
    """Files in PEM (any number of certificates or lists each), DER or JSON.

    Those whose names begin with a full stop are not read.
    """

    def __init__(
        self, path: Path | None, *, most: int = MAXIMUM_ENDORSEMENTS, most_bytes: int = LARGEST_SUM_BYTES
    ) -> None:
        """`path` None: there is no such folder, and nothing in it. `most` endorsements of `most_bytes` together."""
        self._path = path
        self._most = most
        self._most_bytes = most_bytes

    def read(self) -> tuple[bytes, ...]:
        """Every endorsement once, in the order of the files' names.

        Raises `CollectionFailed` naming the file: not a regular one, unreadable, too large, too many.
        """
        if self._path is None:
            return ()
        found: dict[bytes, None] = {}
        for path in self._files(self._path):
            try:
                found.update(dict.fromkeys(endorsements_in(_read(path), path.name)))
            except EvidenceMalformed as error:
                raise CollectionFailed(f"{self._path}: {error}") from error
        if len(found) > self._most or sum(map(len, found)) > self._most_bytes:
            raise CollectionFailed(
                f"{self._path}: expected at most {self._most} endorsements of {self._most_bytes} bytes "
                f"together, found {len(found)} of {sum(map(len, found))}"
            )
        return tuple(found)

    def _files(self, folder: Path) -> list[Path]:
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as error:
            raise CollectionFailed(f"{folder}: expected a folder of endorsements, found {error.strerror}") from error
        most = max(MAXIMUM_FILES, self._most)
        if len(names) > most:
            raise CollectionFailed(f"{folder}: expected at most {most} files, found {len(names)}")
        return [folder / name for name in names]


def _read(path: Path) -> bytes:
    try:
        # Never waits, whatever lies there.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", closefd=True) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CollectionFailed(f"{path}: expected a file, found something else")
            data = stream.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise CollectionFailed(f"{path}: expected a readable file, found {error.strerror}") from error
    if len(data) > LARGEST_FILE_BYTES:
        raise CollectionFailed(f"{path}: expected at most {LARGEST_FILE_BYTES} bytes, found more")
    return data
