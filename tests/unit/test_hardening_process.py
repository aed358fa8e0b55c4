"""How the enclave's process ends when something breaks, and when its core does what is due."""

import subprocess
import sys
import threading
import time

import pytest

from appliance.enclave.ticker import Ticker

BREAK = """
import sys, threading
from appliance.enclave import process

def fail():
    raise {error}

def serve(settings):
    {how}
    threading.Event().wait(5)

process.serve = serve
sys.argv[1:] = ["--agreement=a", "--layout=b", "--store=c", "--socket=d", "--threads=1"]
sys.exit(process.main())
"""


def run_whole(how: str, error: str) -> subprocess.CompletedProcess[str]:
    code = BREAK.format(how=how, error=error)
    return subprocess.run([sys.executable, "-I", "-c", code], env={}, capture_output=True, text=True)


def run(how: str, error: str) -> tuple[int, str]:
    done = run_whole(how, error)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", ["fail()", "threading.Thread(target=fail).start()"])
def test_an_unexpected_error_ends_the_process_and_its_text_stays_inside(how: str) -> None:
    status, said = run(how, "ValueError('the plaintext was 3.14')")
    assert status == 1
    assert said == "event=failed kind=ValueError at=<string>:6"


WRITTEN = """
    import errno, os
    from audit.stored_files import reported_as
    from appliance.enclave.ledger import LedgerFailure
    try:
        with reported_as("log/checkpoint"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/path/of/the/host")
    except Exception as error:
        raise LedgerFailure("in words") from error"""


def test_what_the_disk_said_is_said_with_what_to_do() -> None:
    status, said = run(WRITTEN, "ValueError()")
    assert status == 1
    assert said.startswith("event=failed kind=LedgerFailure at=<string>:")
    assert said.endswith(" because=ENOSPC (make room on its disk and start again)")


DROPPED = """
    import warnings
    class Held:
        def __del__(self):
            fail()
    Held()
    warnings.warn("the plaintext was 3.14")
    raise InterruptedError"""


def test_an_error_that_nobody_waits_for_and_a_warning_are_events_too() -> None:
    done = run_whole(DROPPED, "ValueError('the plaintext was 3.14')")
    assert done.stderr.splitlines()[-3:] == [
        "event=ignored kind=ValueError at=<string>:6",
        "event=warning kind=UserWarning at=<string>:15",
        "event=failed kind=InterruptedError at=<string>:16",
    ]


def test_a_reason_not_to_start_is_one_line_and_a_status_of_its_own() -> None:
    status, said = run("fail()", "process.CannotStartError('the store is older\\nthan its log')")
    assert status == 3
    assert said == "event=start-refused the store is older than its log"


class Scripted:
    """A core whose next time is given; it notes when it was called."""

    def __init__(self, due: int | None, ticks: int) -> None:
        self.due = due
        self.times: list[float] = []
        self._left = ticks

    def tick(self) -> None:
        self.times.append(time.monotonic())
        self._left -= 1
        if self._left < 0:
            raise InterruptedError

    def next_due(self) -> int | None:
        return self.due


def test_a_wake_brings_a_tick_at_once() -> None:
    ticker, core = Ticker(lambda: 0), Scripted(due=None, ticks=1)
    threading.Timer(0.1, ticker.wake).start()
    started = time.monotonic()
    with pytest.raises(InterruptedError):
        ticker.run(core)
    assert len(core.times) == 2
    assert time.monotonic() - started < 5


def test_a_wake_during_a_tick_is_not_lost() -> None:
    ticker = Ticker(lambda: 0)

    class Waking(Scripted):
        def tick(self) -> None:
            ticker.wake()
            super().tick()

    core = Waking(due=None, ticks=3)
    with pytest.raises(InterruptedError):
        ticker.run(core)
    assert len(core.times) == 4


@pytest.mark.parametrize("clock", [1000, 10**12])
def test_what_is_overdue_does_not_spin(clock: int) -> None:
    """Also where the host's clock has jumped."""
    core = Scripted(due=1000, ticks=3)
    with pytest.raises(InterruptedError):
        Ticker(lambda: clock).run(core)
    assert core.times[-1] - core.times[0] >= 0.14
