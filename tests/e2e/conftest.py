"""What several files of end-to-end tests go on from, so that it is made once."""

from collections.abc import Iterator

import pytest
from stopped_federation import Stopped, stopped_federation


@pytest.fixture(scope="session")
def stopped() -> Iterator[Stopped]:
    """A federation that stands still in round 4; tests work on copies of it."""
    with stopped_federation() as found:
        yield found
