"""How a silo's commands end: one line on stderr, and an exit code that scripts can use.

0 done   1 out of reach, or the script failed   2 its own files or TEE   3 refused   4 the log rolled back or forked
"""

from collections.abc import Iterator
from contextlib import contextmanager

from audit.store import StoreError
from protocol.agreement_toml import AgreementError
from protocol.errors import ProtocolError, RefusalCode, RefusedError
from silo_client.channel import ChannelLostError
from silo_client.config import SiloConfigError
from silo_client.enrolment import NoEvidenceError
from silo_client.identity import IdentityError
from silo_client.state import StateError
from strongroom.commands.failure import Failure

_LOG_BROKEN = frozenset({RefusalCode.LOG_ROLLED_BACK, RefusalCode.LOG_FORKED, RefusalCode.OTHER_LOG})
_OWN_SIDE = (SiloConfigError, AgreementError, IdentityError, StateError, StoreError, NoEvidenceError)


class OutOfReach(Failure):
    """The appliance doesn't answer: exit code 1."""

    exit_code = 1


class Refused(Failure):
    """Silo and appliance don't go together, one of them says: exit code 3."""

    exit_code = 3


class LogBroken(Failure):
    """The appliance's log is not the one that this silo has seen: exit code 4."""

    exit_code = 4


def failure_of(error: ProtocolError) -> Failure:
    """The failure that an error of the layers below ends a command with."""
    message = str(error)
    if isinstance(error, RefusedError):
        return LogBroken(message) if error.refusal.code in _LOG_BROKEN else Refused(message)
    if isinstance(error, ChannelLostError):
        return OutOfReach(f"the appliance is out of reach ({message}); is it running where silo.toml says?")
    return Failure(message) if isinstance(error, _OWN_SIDE) else Refused(message)


@contextmanager
def silo_failing_in_words() -> Iterator[None]:
    """Turn what the layers below raise on purpose into a failure with its exit code."""
    try:
        yield
    except ProtocolError as error:
        raise failure_of(error) from error
