"""The supervisor's loop, with scripts in place of the two processes: restarts, giving up, exit statuses, its output."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import child, supervisor
from appliance.child import isolated_interpreter
from appliance.config import DEFAULT_USERS, ApplianceConfig
from appliance.places import Places, StoreUnusableError
from appliance.supervisor import Exit, Output, Ready, Supervisor

BOOT = "ab" * 32
ENCLAVE_UP = f"""echo '{{"boot_id":"{BOOT}","event":"started"}}'"""
GATEWAY_UP = f"""echo '{{"boot_id":"{BOOT}","enrolment":"h:1","event":"serving","federation":"h:2"}}'"""
SERVE = "exec sleep 60"


class Run:
    """One run of a supervisor over scripted processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.ready: list[Ready] = []
        self.on_ready: Callable[[Ready], None] = lambda _: os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(supervisor, "separate", lambda *_: "this is a test")
        monkeypatch.setattr(child, "_FIRST_PAUSE_SECONDS", 0.01)
        monkeypatch.setattr(sys, "executable", str(folder / "python"))

    def __call__(
        self,
        *,
        enclave: str = f"{ENCLAVE_UP}; {SERVE}",
        gateway: str = f"{GATEWAY_UP}; {SERVE}",
        rotate_log_key: bool = False,
    ) -> Exit:
        """`enclave`, `gateway`: shell commands; `$*` are the arguments."""
        script = self.folder / "python"
        script.write_text(
            f'#!/bin/sh\ncase "$*" in *"-m appliance.enclave"*)\n{enclave}\n;;\n*)\n{gateway}\n;;\nesac\n'
        )
        script.chmod(0o755)
        config = ApplianceConfig(
            endorsements=None,
            predecessor=None,
            agreement=self.folder / "federation.toml",
            layout=self.folder / "layout.json",
            store=self.folder / "store",
            enrolment="h:0",
            federation="h:0",
            threads=2,
            users=DEFAULT_USERS,
            witnesses=(),
        )
        output = Output(ready=self._ready, line=self.lines.append)
        return Supervisor(config, output, rotate_log_key=rotate_log_key).run()

    def _ready(self, ready: Ready) -> None:
        self.ready.append(ready)
        self.on_ready(ready)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_it_is_ready_when_the_gateway_serves_the_enclaves_boot_and_ends_when_asked(run: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run() is Exit.ASKED
    (ready,) = run.ready
    assert (ready.enrolment, ready.federation, ready.boot_id) == ("h:1", "h:2", BOOT)
    assert ready.one_user_because == "this is a test"
    assert gone(ready.enclave_pid)
    assert gone(ready.gateway_pid)
    assert signal.getsignal(signal.SIGTERM) is before


def test_children_get_no_environment_and_isolated_modules(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/tmp/keys")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp")
    # The shell itself sets PWD; /proc shows what it was given.
    assert run(enclave=f"tr '\\0' '\\n' < /proc/$$/environ; echo args $*; pwd; {ENCLAVE_UP}; {SERVE}") is Exit.ASKED
    said = [line for line in run.lines if line.startswith("enclave | ")]
    flags = " ".join(isolated_interpreter()[1:])
    assert flags.split()[0] == "-I"
    assert said[0].startswith(f"enclave | args {flags} -m appliance.enclave.process --agreement=")
    assert said[1] == "enclave | /"


def test_a_child_that_died_is_started_again_and_counted(run: Run) -> None:
    def kill_once(ready: Ready) -> None:
        os.kill(ready.gateway_pid if ready.gateway_restarts == 0 else os.getpid(), signal.SIGTERM)

    run.on_ready = kill_once
    assert run(gateway=f"echo asked for $*; {GATEWAY_UP}; {SERVE}") is Exit.ASKED
    assert [ready.gateway_restarts for ready in run.ready] == [0, 1]
    asked = [line for line in run.lines if "asked for" in line]
    assert "--enrolment=h:0" in asked[0]
    assert "--enrolment=h:1" in asked[1]  # Where silos found it: a free port was chosen once.
    assert any("event=restart child=gateway count=1" in line for line in run.lines)


def test_a_log_key_is_rotated_once_however_often_the_enclave_is_started(run: Run) -> None:
    """Until a boot has said that it serves: one that died before may not have come to it."""

    def kill_once(ready: Ready) -> None:
        os.kill(ready.enclave_pid if ready.enclave_restarts == 1 else os.getpid(), signal.SIGTERM)

    run.on_ready = kill_once
    died = f"cd {run.folder}; test -e born || {{ touch born; exit 1; }}"
    assert run(enclave=f"echo asked for $*; {died}; {ENCLAVE_UP}; {SERVE}", rotate_log_key=True) is Exit.ASKED
    asked = ["--rotate-log-key" in line for line in run.lines if "asked for" in line]
    assert asked == [True, True, False]


def test_an_enclave_that_must_not_start_is_not_started_again(run: Run) -> None:
    assert run(enclave="echo event=start-refused another agreement >&2; exit 3") is Exit.REFUSED
    assert run.lines.count("enclave | event=start-refused another agreement") == 1
    assert not any("restart" in line for line in run.lines)
    assert run.ready == []


def test_an_unusable_port_ends_it(run: Run) -> None:
    assert run(gateway="exit 2") is Exit.UNUSABLE


@pytest.mark.parametrize("end", ["exit 1", "kill -9 $$", "exit 0"])
def test_it_gives_up_on_a_child_that_keeps_failing(run: Run, end: str) -> None:
    assert run(enclave=end) is Exit.FAILING
    assert sum("event=restart child=enclave" in line for line in run.lines) == 5
    assert "supervisor | event=given-up child=enclave failures=6" in run.lines


LIVES = 12
PUBLISHED = f"""echo '{{"boot_id":"{BOOT}","event":"published"}}'"""
# Ends the run once there were so many lives.
COUNT = f"echo >> lives; test $(wc -l < lives) -le {LIVES} || kill $PPID"


def test_an_enclave_that_ends_soon_but_publishes_rounds_is_not_given_up(run: Run) -> None:
    """Somebody kills it now and then; nothing is wrong with it."""
    run.on_ready = lambda _: None
    assert run(enclave=f"cd {run.folder}; {ENCLAVE_UP}; {PUBLISHED}; {COUNT}; exit 1") is Exit.ASKED
    assert sum("event=restart child=enclave" in line for line in run.lines) >= LIVES
    assert all("pause-seconds=0.0" in line for line in run.lines if "event=restart" in line)


def test_a_gateway_that_ends_soon_is_not_given_up_while_rounds_are_published(run: Run) -> None:
    run.on_ready = lambda _: None
    gateway = f"cd {run.folder}; rm -f said; {GATEWAY_UP}; until test -e said; do sleep 0.01; done; {COUNT}; exit 1"
    publish = f"cd {run.folder}; {ENCLAVE_UP}; while :; do {PUBLISHED}; touch said; sleep 0.01; done"
    assert run(enclave=publish, gateway=gateway) is Exit.ASKED
    assert sum("event=restart child=gateway" in line for line in run.lines) >= LIVES


def test_an_enclave_that_starts_and_publishes_nothing_is_given_up(run: Run) -> None:
    run.on_ready = lambda _: None
    assert run(enclave=f"{ENCLAVE_UP}; exit 1") is Exit.FAILING


def test_the_last_words_of_a_child_come_before_the_news_of_its_end(run: Run) -> None:
    run(enclave="echo event=failed kind=LedgerFailure >&2; exit 1")
    assert run.lines.index("enclave | event=failed kind=LedgerFailure") < run.lines.index(
        "supervisor | event=ended child=enclave status=1"
    )


def test_a_child_that_does_not_end_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_GRACE_SECONDS", 0.1)
    assert run(gateway=f"trap '' TERM; {GATEWAY_UP}; while :; do sleep 0.1; done") is Exit.ASKED
    assert gone(run.ready[0].gateway_pid)


def test_what_children_say_is_prefixed_and_cannot_draw_on_the_terminal(run: Run) -> None:
    assert run(gateway=f"printf 'red \\033[31m\\n{{\"event\":1}}\\n' ; {GATEWAY_UP}; {SERVE}") is Exit.ASKED
    assert "gateway | red U+001B[31m" in run.lines
    assert 'gateway | {"event":1}' in run.lines


@pytest.mark.parametrize(
    "report",
    [
        "[]",
        "[" * 5000,
        '{"event":"serving"}',
        f'{{"boot_id":"{BOOT}","enrolment":1,"event":"serving","federation":"h:2"}}',
        f'{{"boot_id":"{BOOT}","enrolment":"h:1","event":"serving","federation":"h:2","more":1}}',
        f'{{"boot_id":"{BOOT}","event":"started"}}',
        "\\377",
    ],
)
def test_a_gateway_that_reports_nonsense_is_not_believed(run: Run, report: str) -> None:
    """And doesn't bring the supervisor down."""
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert run(gateway=f"printf '{report}\\n'; {SERVE}") is Exit.ASKED
    assert run.ready == []


def test_a_gateway_that_serves_another_boot_is_not_ready(run: Run) -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert run(gateway=f"{GATEWAY_UP.replace('ab', 'cd')}; {SERVE}") is Exit.ASKED
    assert run.ready == []


def test_a_closed_pipe_costs_nothing(run: Run) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    started = time.process_time()
    assert run(gateway=f"exec >&- 2>&-; {SERVE}") is Exit.ASKED
    assert time.process_time() - started < 0.25


def test_a_store_has_one_supervisor(run: Run) -> None:
    held = Places(store=run.folder / "store").lock()
    with pytest.raises(StoreUnusableError, match="another appliance is running on this store"):
        run()
    os.close(held)
    assert run() is Exit.ASKED


def test_sigint_ends_it_too(run: Run) -> None:
    run.on_ready = lambda _: os.kill(os.getpid(), signal.SIGINT)
    assert run() is Exit.ASKED
