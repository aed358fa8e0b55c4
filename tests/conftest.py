"""For every test: the asserts of the modules beside the tests count as well, also under `python -O`.

pytest compiles a test file's asserts into code that optimising doesn't remove. It does so for modules that tests import
only if it is told to before they are imported.
"""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
pytest.register_assert_rewrite(
    *sorted({path.stem for path in _HERE.glob("*.py")} - {"conftest"}), "attestation_cases", "readers"
)
