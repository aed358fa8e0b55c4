"""Running the readers that others wrote, in their own environment; and the list of where they judge otherwise."""

import json
import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE.parents[1] / "docs" / "other-readers.md"
BIN = Path(os.environ.get("STRONGROOM_READERS", ""))
READERS = {
    "aics-tlog": "read_with_aics.py",
    "tlog-scales": "read_with_scales.py",
    "proofbundle": "read_with_proofbundle.py",
}
_PATH = {"PATH": "/usr/bin:/bin"}
ACCEPTS, REFUSES, CANNOT = "accepts", "refuses", "—"
_ROW = re.compile(r"\| (.+?) \| (accepts|refuses) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|")


def run(command: str, *arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One of the readers' own commands."""
    return subprocess.run(
        [BIN / command, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env=_PATH,
    )


def verdicts_of(reader: str, asked: dict[str, object]) -> dict[str, dict[str, str | None]]:
    """Kind of case → name → None where the reader accepts, else its words."""
    done = run("python", HERE / "inside" / READERS[reader], stdin=json.dumps(asked))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def written_list() -> dict[str, tuple[str, ...]]:
    """Case → our verdict, each reader's, and the reason."""
    rows = [row.groups() for row in map(_ROW.fullmatch, LIST.read_text().split("\n")) if row is not None]
    found = {name: tuple(cells) for name, *cells in rows}
    if len(found) != len(rows):
        raise ValueError("docs/other-readers.md: a case stands there twice")
    return found
