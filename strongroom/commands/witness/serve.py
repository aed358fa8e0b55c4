"""`strongroom witness serve`: the server."""

import json
import signal
import threading
import time
from pathlib import Path

import click

from audit.witnessing.witness import Witness
from protocol.agreement_toml import printable
from strongroom.commands.failure import Failure, failing_in_words
from strongroom.commands.witness.files import CONFIG, WitnessConfig
from strongroom.witness_server import WitnessServer

_END = {signal.SIGTERM, signal.SIGINT}


@click.command(short_help="Answer add-checkpoint until told to stop.")
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object once it listens.")
def command(file: Path, *, as_json: bool) -> None:
    """Answer POST /add-checkpoint until SIGTERM or Ctrl-C, for the logs that were added.

    Exits with 0 when told to stop, 2 if its files or its port can't be used.
    """
    with failing_in_words():
        config = WitnessConfig.load(file)
        key, own = config.read_key()
        with config.hold_state(own) as state:
            logs = [log.origin for log in state.logs()]
            witness = Witness(key=key, state=state, clock=lambda: int(time.time()), event=_event)
            # In every thread from here on; `sigwait` below takes them.
            signal.pthread_sigmask(signal.SIG_BLOCK, _END)
            try:
                server = WitnessServer(config.listen, witness, _event)
            except OSError as error:
                host, port = config.listen
                raise Failure(f"{host}:{port}: can't listen there: {error.strerror or error}") from error
            host, port = server.server_name, server.server_port
            where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            if as_json:
                click.echo(json.dumps({"event": "ready", "url": where, "key": str(own), "logs": logs}))
            else:
                shown = ", ".join(printable(log) for log in logs) or "none yet (strongroom witness add)"
                click.echo(f"ready: {where}, key {own}, logs: {shown}")
            threading.Thread(target=server.serve_forever, daemon=True).start()
            signal.sigwait(_END)
            server.shutdown()
            server.server_close()


def _event(line: str) -> None:
    click.echo(f"event={line}", err=True)
