"""One target under the coverage-guided fuzzer: `python tests/fuzz/one.py TARGET [CORPUS] [libFuzzer's options]`.

Given a file in place of a folder, it runs that one input.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import atheris  # noqa: E402

with atheris.instrument_imports(include=["attestation", "protocol", "audit"]):
    from parser_targets import targets


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    target = targets()[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: target(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
