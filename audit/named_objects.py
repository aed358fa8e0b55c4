"""The content-addressed objects beside the log: those that entries name, and those that nobody does.

An object is its digest or it is damaged; nothing else is believed of it here. Called by the audit.
"""

from hashlib import sha256
from typing import ClassVar

from audit.findings import Findings
from audit.inventory import Inventory
from audit.log_files import LogFiles
from audit.report import Line
from audit.resources import object_name
from audit.store import MAXIMUM_READ_BYTES, NotFound, StoreError


class NamedObjects:
    """Hands out objects by digest, and remembers which were asked for."""

    NOT_KEPT: ClassVar = frozenset({"_files", "_findings", "_stored"})

    def __init__(self, *, files: LogFiles, inventory: Inventory, findings: Findings) -> None:
        self.found = 0
        self._files = files
        self._findings = findings
        self._stored = inventory.objects
        self._asked: set[bytes] = set()

    def get(self, digest: bytes, what: str, *, entry: int | None = None, kind: str | None = None) -> bytes | None:
        """An object that an entry names as its `what`; None, and noted, if it is missing or not what it is named."""
        data = self._read(digest, f"expected {what}, found none", entry, kind)
        if digest not in self._asked:
            self._asked.add(digest)
            self.found += data is not None
        return data

    def check_again(self, size: int) -> None:
        """Hash again whatever the first `size` entries named, which was there once."""
        for digest in sorted(self._asked):
            self._read(digest, f"expected it, as it was there when the first {size} entries were judged", None, None)

    def conclude(self, *, complete: bool) -> None:
        """Check what nobody named; `complete` says that every entry had its say."""
        for digest in sorted(self._stored - self._asked):
            if self._read(digest, "listed, and then not found", None, None) is not None and complete:
                self._findings.note(f"{object_name(digest)}: no entry names this object (left by a crash, probably)")

    def _read(self, digest: bytes, missing: str, entry: int | None, kind: str | None) -> bytes | None:
        name = object_name(digest)
        try:
            data = self._files.read(name, limit_bytes=MAXIMUM_READ_BYTES)
        except NotFound:
            self._findings.uncheckable(Line.OBJECTS, missing, resource=name, entry=entry, kind=kind)
            return None
        except StoreError as error:
            self._findings.uncheckable(Line.OBJECTS, str(error), resource=name, entry=entry, kind=kind)
            return None
        if sha256(data).digest() != digest:
            problem = f"expected SHA-256 {digest.hex()}, found {sha256(data).hexdigest()}"
            self._findings.damaged(Line.OBJECTS, name, problem)
            return None
        return data
