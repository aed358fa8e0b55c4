"""The enclave's process: its composition root, the only place that makes a real clock, randomness, store and socket.

Started by the supervisor with `python -I` and no environment. Arguments, files and store are the operator's, who is the
adversary: a wrong one can only stop it. Hardens itself before anything else is loaded. Standard error gets events, one
line of codes each; standard output one JSON object once it serves, and one when a round is published. Ends with 0 when
asked to (SIGTERM), `EXIT_REFUSED` when it must not start, `EXIT_FAILED` when it should be started again.
"""

import argparse
import errno
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, TextIO

from appliance.enclave.hardening import harden

if TYPE_CHECKING:
    from appliance.enclave.machine import Enclave
    from appliance.enclave.recovering import Recovering
    from appliance.enclave.succession import Successor
    from attestation.collect.platform import Platform
    from attestation.reference_values import ReferenceValues

EXIT_FAILED = 1
EXIT_REFUSED = 3
_FILE_MODE = 0o640
_END = {signal.SIGTERM, signal.SIGINT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command line, which the supervisor writes."""

    agreement: Path
    layout: Path
    store: Path
    socket: Path
    threads: int
    endorsements: Path | None
    predecessor: Path | None
    successor: Path | None
    approvals: Path | None
    rotate_log_key: bool
    recover: bool

    @classmethod
    def parse(cls, arguments: list[str]) -> "Settings":
        parser = argparse.ArgumentParser(prog="enclave", allow_abbrev=False)
        for name in ("agreement", "layout", "store", "socket"):
            parser.add_argument(f"--{name}", type=Path, required=True)
        parser.add_argument("--threads", type=int, required=True)
        for name in ("endorsements", "predecessor", "successor", "approvals"):
            parser.add_argument(f"--{name}", type=Path)
        parser.add_argument("--rotate-log-key", action="store_true")
        parser.add_argument("--recover", action="store_true")
        return cls(**vars(parser.parse_args(arguments)))


class CannotStartError(Exception):
    """Something is wrong that starting again will not mend; one line that says what."""


def event(line: str) -> None:
    """Write one event: codes and names, never data; always one line."""
    print(f"event={' '.join(line.split())}", file=sys.stderr, flush=True)


def die(error: BaseException) -> NoReturn:
    """End at once: the state in memory is in doubt, and what is durable is not."""
    event(f"failed kind={type(error).__name__} at={_place(_innermost(error.__traceback__))}{_because(error)}")
    os._exit(EXIT_FAILED)


def _because(error: BaseException) -> str:
    """What the operating system said, where that was the cause, and what to do about it."""
    # Loaded already wherever a store has failed: nothing is opened here, which might fail again.
    words = sys.modules.get("audit.stored_files")
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and words is not None and (remedy := words.remedy_for(found)):
            return f" because={errno.errorcode[found.errno or 0]} ({remedy})"
        found = found.__cause__
    return ""


def ignore(found: "sys.UnraisableHookArgs") -> None:
    """Something failed that nobody waits for: a destructor, a library's callback."""
    event(f"ignored kind={found.exc_type.__name__} at={_place(_innermost(found.exc_traceback))}")


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A library warns."""
    event(f"warning kind={category.__name__} at={Path(filename).name}:{lineno}")


def _innermost(frame: TracebackType | None) -> TracebackType | None:
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame


def _place(frame: TracebackType | None) -> str:
    return "unknown" if frame is None else f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"


def main() -> int:
    """Run the enclave; returns the exit status."""
    outcomes = harden()
    # Tracebacks quote values, and so may a library's words; no logger writes here either.
    sys.excepthook = lambda _kind, error, _trace: die(error)
    threading.excepthook = lambda args: die(args.exc_value or RuntimeError())
    sys.unraisablehook = ignore
    warnings.showwarning = warn
    os.environ["GRPC_VERBOSITY"] = "NONE"
    for outcome in outcomes:
        event(f"hardening {outcome}")
    settings = Settings.parse(sys.argv[1:])
    try:
        serve(settings)
    except CannotStartError as error:
        event(f"start-refused {error}")
        return EXIT_REFUSED
    return 0


def serve(settings: Settings) -> None:
    """Boot, and serve until SIGTERM. Raises `CannotStartError`."""
    import logging

    import torch

    from appliance.enclave.outbox import Outbox
    from appliance.enclave.ports import Ports
    from appliance.enclave.service import EnclaveService, open_socket
    from appliance.enclave.spool import EnclaveSpool
    from appliance.enclave.startup import StartRefusedError, recover, start
    from appliance.enclave.ticker import Ticker
    from audit.log_files import LogFiles
    from audit.store import DirectoryStore, StoreError
    from protocol import canonical
    from protocol.agreement import Agreement
    from protocol.errors import ProtocolError
    from protocol.layout import Layout
    from protocol.sealing.geometry import WRAP_BYTES, size_of
    from protocol.sealing.header import HEADER_LIMIT_BYTES

    logging.disable(logging.CRITICAL)
    # A merge brings its own threads, one a chunk.
    torch.set_num_threads(1)
    # In every thread from here on; `sigwait` below takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _END)
    outbox, ticker = Outbox(), Ticker(_clock)
    try:
        agreement = Agreement.parse(settings.agreement.read_bytes(), settings.agreement.name)
        layout = Layout.parse(settings.layout.read_bytes())
        store = DirectoryStore(settings.store, file_mode=_FILE_MODE)
        store.settle()
        platform = _platform(agreement.appliance, settings.endorsements)
        ports = Ports(clock=_clock, random=os.urandom, send=outbox.send, ask=outbox.ask, wake=ticker.wake, event=event)
        begin = recover
        if not settings.recover:
            begin = partial(
                start,
                predecessor=None if settings.predecessor is None else LogFiles.find(settings.predecessor),
                successor=_successor(settings),
                rotate_log_key=settings.rotate_log_key,
            )
        core = begin(
            agreement=agreement, layout=layout, store=store, platform=platform, ports=ports, threads=settings.threads
        )
    except (StartRefusedError, StoreError, ProtocolError, OSError) as error:
        raise CannotStartError(str(error)) from error
    spool = EnclaveSpool(settings.store / "spool", largest=size_of(HEADER_LIMIT_BYTES, WRAP_BYTES, layout.chunks))
    server = open_socket(EnclaveService(core, outbox, spool, die), settings.socket)
    description = core.describe()
    event(f"started boot={description.boot_id.hex()} origin={description.origin} log-size={description.log_size}")

    def report(what: str) -> None:
        print(canonical.encode({"event": what, "boot_id": description.boot_id.hex()}).decode(), flush=True)

    report("started")
    watched = _Watched(core, lambda: report("published"))
    threading.Thread(target=ticker.run, args=(watched,), daemon=True).start()
    signal.sigwait(_END)
    # Whatever is under way is lost, and was not promised: what is durable is consistent at every moment.
    server.stop(grace=None)
    event("stopped")


class _Watched:
    """The core as the ticker knows it, watched: `published` is called after a tick in which a round was."""

    def __init__(self, core: "Enclave | Recovering", published: Callable[[], None]) -> None:
        self._core = core
        self._published = published
        self._round = core.describe().round
        self.next_due = core.next_due

    def tick(self) -> None:
        self._core.tick()
        number = self._core.describe().round
        if number > self._round:
            self._round = number
            self._published()


def _successor(settings: Settings) -> "Successor | None":
    """The agreement that takes over, and the approvals in their folder; raises `ProtocolError`, `OSError`."""
    from appliance.enclave.succession import Successor
    from protocol.agreement import Agreement
    from protocol.succession import read_approval

    if settings.successor is None or settings.approvals is None:
        return None
    files = sorted(file for file in settings.approvals.iterdir() if file.suffix == ".approval")
    return Successor(
        agreement=Agreement.parse(settings.successor.read_bytes(), settings.successor.name),
        approvals=tuple(read_approval(file.read_bytes(), file.name) for file in files),
    )


def _clock() -> int:
    return int(time.time())


def _platform(accepted: "Sequence[ReferenceValues]", endorsements: Path | None) -> "Platform":
    """The TEE that the agreement names and this machine offers."""
    from attestation.collect.choose import open_platform
    from attestation.collect.errors import CollectError
    from attestation.collect.machine import this_machine
    from attestation.collect.measurement import NotMeasurable

    try:
        return open_platform(accepted, machine=this_machine(), endorsements=endorsements)
    except (CollectError, NotMeasurable) as error:
        raise CannotStartError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
