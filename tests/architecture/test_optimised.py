"""Under `python -O`, which removes asserts, the product checks what it always checks, and so do the tests."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("attestation", "protocol", "audit", "appliance", "silo_client", "strongroom", "demo", "benchmarks")
FILES = sorted(path for package in PRODUCT for path in (ROOT / package).rglob("*.py"))


def depends_on_optimising(tree: ast.AST) -> list[str]:
    """What `-O` would change: asserts, `__debug__`, and the flag itself."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert")
        elif isinstance(node, ast.Name) and node.id == "__debug__":
            found.append(f"line {node.lineno}: __debug__")
        elif isinstance(node, ast.Attribute) and node.attr == "optimize":
            found.append(f"line {node.lineno}: sys.flags.optimize")
    return found


# Hands the flag on to the processes that it starts.
HANDS_ON = ROOT / "appliance" / "child.py"


@pytest.mark.parametrize("package", PRODUCT)
def test_no_code_of_ours_depends_on_it(package: str) -> None:
    files = [path for path in FILES if path.is_relative_to(ROOT / package)]
    assert files
    found = {str(path): depends_on_optimising(ast.parse(path.read_bytes())) for path in files if path != HANDS_ON}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_what_hands_the_flag_on_does_nothing_else_with_it() -> None:
    assert len(depends_on_optimising(ast.parse(HANDS_ON.read_bytes()))) == 1


@pytest.mark.parametrize("text", ["assert x", "if __debug__:\n    pass", "import sys\nprint(sys.flags.optimize)"])
def test_what_depends_on_it_is_noticed(text: str) -> None:
    assert len(depends_on_optimising(ast.parse(text))) == 1


def test_a_false_assert_fails_all_the_same() -> None:
    """In a test file, and in a module that tests import: both would pass if optimising took them away."""
    file = Path(__file__).with_name("failing_under_optimisation.py")
    arguments = [sys.executable, "-O", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", str(file)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed" in done.stdout
