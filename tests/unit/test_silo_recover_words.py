"""What `strongroom silo recover` says of the model before it asks."""

import pytest

from protocol.recovery import Loss
from strongroom.commands.silo_recover import _model_in_words


@pytest.mark.parametrize(
    ("rounds", "yours", "held", "words"),
    [
        (0, None, None, "nothing: no round was published"),
        (7, 7, 7, "nothing: this silo holds that of round 7, the newest"),
        (7, 5, 7, "nothing, if a silo that holds that of round 7, the newest, authorises too (this silo holds that of"),
        (7, None, 6, "what round 7 added: no silo that has asked so far holds it (this silo holds none)"),
        (7, 0, 0, "what rounds 1 to 7 added: no silo that has asked so far holds it (this silo holds the initial one)"),
        (1, None, None, "what round 1 added: no silo that has asked so far holds it (this silo holds none)"),
    ],
)
def test_the_model(rounds: int, yours: int | None, held: int | None, words: str) -> None:
    loss = Loss(rounds=rounds, attempt=None, controls=False, yours=yours, held=held)
    assert " ".join(_model_in_words(loss)).startswith(words)
