"""What every command of a silo says where the TEEs are simulated."""

import sys

from protocol.agreement import Agreement

PROTECTS_NOTHING = (
    "The TEEs of this agreement are simulated: THIS PROTECTS NOTHING. Whoever runs the appliance can read every "
    "update. For trying out only."
)
_said: set[str] = set()


def say_if_simulated(agreement: Agreement) -> None:
    """Say on stderr, once a process, that simulated TEEs protect nothing."""
    if agreement.simulated and PROTECTS_NOTHING not in _said:
        _said.add(PROTECTS_NOTHING)
        sys.stderr.write(f"{PROTECTS_NOTHING}\n")
