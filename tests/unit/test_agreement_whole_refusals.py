"""Agreements whose tables are missing or contradict one another, and bytes that are no clean TOML."""

import runpy
from pathlib import Path

import pytest

from protocol.agreement import Agreement, AgreementError

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
GOOD: str = EXAMPLES["good_agreement"]()


def error_of(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(AgreementError) as caught:
        Agreement.parse(data, "federation.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "federation: expected a table, found no such key"),
        (GOOD.replace("[privacy]", "[privacies]"), "privacy: expected a table, found no such key"),
        (GOOD + "\n[extra]\n", "extra: expected no such key, found one (misspelt?)"),
        ("version = 1\n" + GOOD, "version: expected no such key, found one (misspelt?)"),
        ("federation = 3\n", "[federation]: expected a table, found 3"),
        (GOOD.split("[[silo]]", maxsplit=1)[0], "silo: expected 1 to 256 [[silo]] tables, found no such key"),
        ("silo = []\n" + GOOD.split("[[silo]]", maxsplit=1)[0], "silo: expected 1 to 256 [[silo]] tables, found []"),
        ("silo = [7]\n" + GOOD.split("[[silo]]", maxsplit=1)[0], "[[silo]] #1: expected a table, found 7"),
        (
            GOOD.replace(EXAMPLES["tee_table"]("appliance.tee"), ""),
            "[appliance] tee: expected 1 to 64 [[appliance.tee]] tables, found no such key",
        ),
        (
            GOOD.replace(EXAMPLES["tee_table"]("appliance.tee"), "tee = []"),
            "[appliance] tee: expected 1 to 64 [[appliance.tee]] tables, found []",
        ),
        (
            GOOD.replace(EXAMPLES["tee_table"]("silo.tee"), "", 1),
            '[[silo]] "silo-0" tee: expected 1 to 64 [[silo.tee]] tables, found no such key',
        ),
        (
            GOOD.replace("[[silo.tee]]", '[[silo.tee]]\ntee = "none"\n[[silo.tee]]', 1),
            '[[silo.tee]] "silo-0": expected tee = "none" alone, found it beside others, which it would void',
        ),
        (
            GOOD.replace(EXAMPLES["tee_table"]("silo.tee"), '[[silo.tee]]\ntee = "none"\nvmpl = 0\n', 1),
            '[[silo.tee]] "silo-0" #1 vmpl: expected no such key, found one (misspelt?)',
        ),
        (
            EXAMPLES["good_agreement"](tee="sev-snp", silo_tee="simulated"),
            (
                '[[appliance.tee]] #1 tee: expected "simulated" like another in this file (never beside a real one), '
                'found "sev-snp"'
            ),
        ),
        (
            EXAMPLES["good_agreement"](silo_tee="sev-snp"),
            (
                '[[silo.tee]] "silo-0" #1 tee: expected "simulated" like another in this file '
                '(never beside a real one), found "sev-snp"'
            ),
        ),
        (
            GOOD + EXAMPLES["tee_table"]("appliance.tee", "sev-snp"),
            (
                '[[appliance.tee]] #2 tee: expected "simulated" like another in this file (never beside a real one), '
                'found "sev-snp"'
            ),
        ),
        (
            EXAMPLES["good_agreement"](tee="sev-snp").replace('origin = "', 'origin = "simulated.'),
            (
                '[log] origin: expected not to start with "simulated.", as no TEE is simulated, '
                'found "simulated.strongroom.example/digits"'
            ),
        ),
        (
            EXAMPLES["good_agreement"](owners=("a", "a", "b", "b")).replace("minimum_cohort = 2", "minimum_cohort = 3"),
            "[federation] minimum_cohort: expected at most 2, the number of owners, found 3",
        ),
        (
            EXAMPLES["good_agreement"](owners=("a", "b", "c"), cosigners=2),
            "[log] cosigners: expected 2 × cosigners − owners (3) > faulty (1), that is at least 3, found 2",
        ),
        (
            EXAMPLES["good_agreement"](owners=tuple("abcdefgh"), cosigners=4),
            "[log] cosigners: expected 2 × cosigners − owners (8) > faulty (1), that is at least 5, found 4",
        ),
    ],
)
def test_a_whole_that_does_not_hold_is_refused(text: str, error: str) -> None:
    assert error_of(text) == f"federation.toml: {error}"


CHARACTERS = "expected no control, bidirectional or invisible characters"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), "expected no byte-order mark, found one"),
        (GOOD.replace("\n", "\r\n").encode(), "expected LF line ends, found a carriage return on line 1"),
        (b"# ok\n# \xff\n" + GOOD.encode(), "expected UTF-8, found other bytes on line 2"),
        (GOOD.encode("utf-16"), "expected UTF-8, found other bytes on line 1"),
        (b"#\n#\x00\n" + GOOD.encode(), f"{CHARACTERS}, found U+0000 on line 2"),
        (b"#\t\n" + GOOD.encode(), f"{CHARACTERS}, found U+0009 on line 1"),
        (b"#\x1b[2J\n" + GOOD.encode(), f"{CHARACTERS}, found U+001B on line 1"),
        ("# \u202e\n".encode() + GOOD.encode(), f"{CHARACTERS}, found U+202E on line 1"),
        ("# \u2066\n".encode() + GOOD.encode(), f"{CHARACTERS}, found U+2066 on line 1"),
        ("# \u200b\n".encode() + GOOD.encode(), f"{CHARACTERS}, found U+200B on line 1"),
        ("# \u2028\n".encode() + GOOD.encode(), f"{CHARACTERS}, found U+2028 on line 1"),
        (
            GOOD.replace('"digits"', '"dig\\u202Eits"').encode(),
            f"{CHARACTERS} in keys and strings, found an escaped U+202E",
        ),
        (b'"\\u0007" = 1\n', f"{CHARACTERS} in keys and strings, found an escaped U+0007"),
        (b"#" * (2**20 + 1), "expected at most 1048576 bytes, found 1048577"),
        (b"a = 0x" + b"f" * 5000, "expected integers of 64 bits, found one of 20000 bits"),
        (b"a." * 20 + b"b = 1", "expected at most 8 levels of tables, found more"),
        (
            GOOD.replace("rounds = 40", "rounds = 40\nrounds = 40").encode(),
            "expected TOML, found an error: Cannot overwrite a value (at line 6, column 12)",
        ),
        (b"name = ", "expected TOML, found an error: Invalid value (at end of document)"),
    ],
)
def test_bytes_that_are_no_clean_toml_are_refused(data: bytes, error: str) -> None:
    assert error_of(data) == f"federation.toml: {error}"


def test_an_error_is_one_line_even_under_a_strange_file_name() -> None:
    with pytest.raises(AgreementError, match=r"^my U\+000Afile: federation: expected a table"):
        Agreement.parse(b"", "my \nfile")
