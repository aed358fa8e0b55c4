"""Cases in at stdin, verdicts out at stdout: null where a reader accepts, else what it said.

The `read_with_…` scripts beside this run in the readers' own environment (`.venv-readers`) and import nothing of ours.
"""

import json
import sys


def answer(**judges):
    """`judges`: for each kind of case, what raises unless the reader accepts it; called with the case and all asked."""
    asked = json.load(sys.stdin)
    answers = {
        kind: {name: _verdict(judge, case, asked) for name, case in asked.get(kind, {}).items()}
        for kind, judge in judges.items()
    }
    json.dump(answers, sys.stdout)


def _verdict(judge, case, asked):
    try:
        judge(case, asked)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
