"""Every refusal of `federation.toml`, with its exact words; each case is one change away from a good agreement."""

import runpy
from pathlib import Path

import pytest

from protocol.agreement import Agreement, AgreementError

EXAMPLES = runpy.run_path(str(Path(__file__).parents[1] / "agreement_examples.py"))
GOOD: str = EXAMPLES["good_agreement"]()
IDENTITY = EXAMPLES["identity"]
POSITIVE = "a decimal number above 0 (1e-30 to 1e30)"
NAME = "a name [a-z0-9-]{1,63}"
ORIGIN = 'an origin of 1 to 191 printable ASCII characters without spaces and "+"'


def error_of(text: str) -> str:
    with pytest.raises(AgreementError) as caught:
        Agreement.parse(text.encode(), "federation.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "instead", "error"),
    [
        # [federation]
        ('name = "digits"', "", f"[federation] name: expected {NAME}, found no such key"),
        ('name = "digits"', 'name = "Digits"', f"[federation] name: expected {NAME}, found 'Digits'"),
        ('name = "digits"', 'name = ""', f"[federation] name: expected {NAME}, found ''"),
        ('name = "digits"', "name = 7", f"[federation] name: expected {NAME}, found 7"),
        (
            "minimum_cohort = 2",
            "minimum_cohort = 1",
            "[federation] minimum_cohort: expected an integer from 2 to 256, found 1",
        ),
        (
            "minimum_cohort = 2",
            "minimum_cohort = 5",
            "[federation] minimum_cohort: expected at most 4, the number of owners, found 5",
        ),
        ("rounds = 40", "rounds = 0", "[federation] rounds: expected an integer from 1 to 1000000, found 0"),
        ("rounds = 40", "rounds = true", "[federation] rounds: expected an integer from 1 to 1000000, found True"),
        ("rounds = 40", "rounds = 40.0", "[federation] rounds: expected an integer from 1 to 1000000, found 40.0"),
        (
            "round_deadline_seconds = 60",
            'round_deadline_seconds = "60"',
            "[federation] round_deadline_seconds: expected an integer from 1 to 604800, found '60'",
        ),
        (
            "enrolment_deadline_seconds = 600",
            "",
            "[federation] enrolment_deadline_seconds: expected an integer from 1 to 604800, found no such key",
        ),
        (
            "credential_seconds = 3600",
            "credential_seconds = 0",
            "[federation] credential_seconds: expected an integer from 1 to 604800, found 0",
        ),
        (
            "rounds = 40",
            "rounds = 40\nround = 40",
            "[federation] round: expected no such key, found one (misspelt?)",
        ),
        # [model]
        (
            f'layout = "sha256:{"11" * 32}"',
            f'layout = "{"11" * 32}"',
            f"[model] layout: expected \"sha256:\" and 64 hexadecimal digits, found '{'11' * 32}'",
        ),
        (
            f'initial = "sha256:{"22" * 32}"',
            'initial = "sha256:22"',
            "[model] initial: expected \"sha256:\" and 64 hexadecimal digits, found 'sha256:22'",
        ),
        # [training]
        (
            'strategy = "scaffold"',
            'strategy = "fedsgd"',
            '[training] strategy: expected one of "scaffold", "fedavg", "fedprox", found \'fedsgd\'',
        ),
        (
            'strategy = "scaffold"',
            'strategy = "fedprox"',
            f"[training] proximal_mu: expected {POSITIVE}, found no such key",
        ),
        (
            'strategy = "scaffold"',
            'strategy = "fedprox"\nproximal_mu = 0',
            f"[training] proximal_mu: expected {POSITIVE}, found 0",
        ),
        (
            "local_steps = 10",
            "local_steps = 10\nproximal_mu = 0.1",
            (
                '[training] proximal_mu: expected no such key with strategy = "scaffold" '
                '(it belongs to "fedprox"), found 0.1'
            ),
        ),
        (
            "local_steps = 10",
            "local_steps = 0",
            "[training] local_steps: expected an integer from 1 to 1000000, found 0",
        ),
        (
            "local_steps = 10",
            'local_steps = "ten"',
            "[training] local_steps: expected an integer from 1 to 1000000, found 'ten'",
        ),
        ("\nlearning_rate = 0.1", "\nlearning_rate = 0.0", f"[training] learning_rate: expected {POSITIVE}, found 0.0"),
        (
            "\nlearning_rate = 0.1",
            "\nlearning_rate = -0.1",
            f"[training] learning_rate: expected {POSITIVE}, found -0.1",
        ),
        ("\nlearning_rate = 0.1", "\nlearning_rate = nan", f"[training] learning_rate: expected {POSITIVE}, found nan"),
        ("\nlearning_rate = 0.1", "\nlearning_rate = inf", f"[training] learning_rate: expected {POSITIVE}, found inf"),
        (
            "\nlearning_rate = 0.1",
            "\nlearning_rate = 1e400",
            f"[training] learning_rate: expected {POSITIVE}, found inf",
        ),
        (
            "\nlearning_rate = 0.1",
            "\nlearning_rate = 1e-400",
            f"[training] learning_rate: expected {POSITIVE}, found 0.0",
        ),
        (
            "\nlearning_rate = 0.1",
            "\nlearning_rate = true",
            f"[training] learning_rate: expected {POSITIVE}, found True",
        ),
        (
            "\nlearning_rate = 0.1",
            '\nlearning_rate = "0.1"',
            f"[training] learning_rate: expected {POSITIVE}, found '0.1'",
        ),
        (
            "server_learning_rate = 1",
            "server_learning_rate = 0",
            f"[training] server_learning_rate: expected {POSITIVE}, found 0",
        ),
        # [update], [privacy]
        (
            'encoding = "float32"',
            'encoding = "int8"',
            "[update] encoding: expected \"float32\" (nothing else is supported yet), found 'int8'",
        ),
        (
            'encoding = "float32"',
            "",
            '[update] encoding: expected "float32" (nothing else is supported yet), found no such key',
        ),
        (
            "maximum_norm = 100.0",
            "maximum_norm = 0",
            f"[update] maximum_norm: expected {POSITIVE}, found 0",
        ),
        (
            'mechanism = "none"',
            'mechanism = "gaussian"',
            "[privacy] mechanism: expected \"none\" (nothing else is supported yet), found 'gaussian'",
        ),
        (
            'mechanism = "none"',
            'mechanism = "none"\nepsilon = 8',
            "[privacy] epsilon: expected no such key, found one (misspelt?)",
        ),
        # [log]
        (
            'origin = "simulated.strongroom.example/digits"',
            'origin = "strongroom.example/digits"',
            (
                '[log] origin: expected to start with "simulated.", as the TEEs are simulated, '
                'found "strongroom.example/digits"'
            ),
        ),
        (
            'origin = "simulated.strongroom.example/digits"',
            'origin = "simulated.a b"',
            f"[log] origin: expected {ORIGIN}, found 'simulated.a b'",
        ),
        (
            'origin = "simulated.strongroom.example/digits"',
            'origin = "simulated.a+b"',
            f"[log] origin: expected {ORIGIN}, found 'simulated.a+b'",
        ),
        (
            'origin = "simulated.strongroom.example/digits"',
            f'origin = "simulated.{"a" * 246}"',
            f"[log] origin: expected {ORIGIN}, found {repr('simulated.' + 'a' * 246)[:120]}",
        ),
        (
            "cosigners = 3",
            "cosigners = 2",
            "[log] cosigners: expected 2 × cosigners − owners (4) > faulty (1), that is at least 3, found 2",
        ),
        ("cosigners = 3", "cosigners = 5", "[log] cosigners: expected at most 4, the number of owners, found 5"),
        (
            "cosigners = 3\nfaulty = 1",
            "cosigners = 3\nfaulty = 2",
            "[log] cosigners: expected 2 × cosigners − owners (4) > faulty (2), that is at least 4, found 3",
        ),
        ("faulty = 1", "faulty = 0", "[log] faulty: expected an integer from 1 to 256, found 0"),
        ("faulty = 1", "faulty = 4", "[log] faulty: expected fewer than the 4 owners, found 4"),
        # [[silo]]
        ('name = "silo-0"', "", f"[[silo]] #1 name: expected {NAME}, found no such key"),
        ('name = "silo-1"', 'name = "silo_1"', f"[[silo]] #2 name: expected {NAME}, found 'silo_1'"),
        (
            'name = "silo-1"',
            'name = "silo-0"',
            '[[silo]] #2 name: expected one that no other silo has, found "silo-0" again',
        ),
        ('owner = "cantone"', 'owner = "Cantone"', f"[[silo]] \"silo-2\" owner: expected {NAME}, found 'Cantone'"),
        (
            'jurisdiction = "CH"',
            'jurisdiction = "C H"',
            "[[silo]] \"silo-0\" jurisdiction: expected 1 to 63 of [A-Za-z0-9-], found 'C H'",
        ),
        (
            IDENTITY("silo-1"),
            IDENTITY("silo-0"),
            '[[silo]] "silo-1" identity: expected a key that no other silo has, found that of "silo-0"',
        ),
        (
            IDENTITY("silo-1"),
            "ed25519:AAAA",
            (
                '[[silo]] "silo-1" identity: expected "ed25519:" and base64 of 32 bytes, as `silo init` prints it, '
                "found 'ed25519:AAAA'"
            ),
        ),
        (
            IDENTITY("silo-1"),
            IDENTITY("silo-1").removeprefix("ed25519:"),
            (
                '[[silo]] "silo-1" identity: expected "ed25519:" and base64 of 32 bytes, as `silo init` prints it, '
                f"found {IDENTITY('silo-1').removeprefix('ed25519:')!r}"
            ),
        ),
        (
            IDENTITY("silo-1"),
            f"ed25519:{'A' * 43}=",  # A point of small order: anybody could sign for this silo.
            (
                '[[silo]] "silo-1" identity: expected "ed25519:" and base64 of 32 bytes, as `silo init` prints it, '
                f"found 'ed25519:{'A' * 43}='"
            ),
        ),
        ("weight = 1.0", "weight = 0.0", f'[[silo]] "silo-0" weight: expected {POSITIVE}, found 0.0'),
        ("weight = 1.0", "weight = -1", f'[[silo]] "silo-0" weight: expected {POSITIVE}, found -1'),
        ("weight = 1.0", "", f'[[silo]] "silo-0" weight: expected {POSITIVE}, found no such key'),
        (
            "weight = 1.0",
            "weight = 1000",
            (
                "[[silo]] weight: expected (Σw)²/Σw² of all silos to reach minimum_cohort (2), "
                "or a heavy silo would stand alone, found 1.00601"
            ),
        ),
        (
            "weight = 1.0",
            "weight = 1.0\nwieght = 1.0",
            '[[silo]] "silo-0" wieght: expected no such key, found one (misspelt?)',
        ),
    ],
)
def test_one_change_is_refused(line: str, instead: str, error: str) -> None:
    assert line in GOOD
    assert error_of(GOOD.replace(line, instead, 1)) == f"federation.toml: {error}"
