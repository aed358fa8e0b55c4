"""`strongroom appliance serve | status | measure`: run the aggregator, ask how it is, print the code's measurement."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from appliance.config import ApplianceConfig
from appliance.places import Places, StoreUnusableError
from appliance.supervisor import Exit, Handover, Output, Ready, Supervisor
from protocol.agreement import Agreement
from protocol.errors import ProtocolError
from protocol.fields import format_digest
from protocol.layout import Layout
from strongroom.commands.appliance_measure import PROTECTS_NOTHING
from strongroom.commands.appliance_measure import command as measure_command
from strongroom.commands.failure import Failure, failing_in_words

_FILE = click.Path(path_type=Path, dir_okay=False)
_CONFIG = click.option(
    "--config", "file", type=_FILE, default=Path("appliance.toml"), show_default=True, help="The appliance's settings."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_STATUS_SECONDS = 5.0


@click.group()
def command() -> None:
    """Run the aggregator: enclave and gateway."""


@command.command(short_help="Run an appliance until told to stop.")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object each time that the appliance is ready.")
@click.option(
    "--rotate-log-key", is_flag=True, help="Go on with the log under a new key, to which the present one hands over."
)
@click.option(
    "--recover", is_flag=True, help="Where the log's key is lost: wait for the silos' leave to go on under a new one."
)
@click.option("--successor", type=_FILE, help="End this federation for another agreement; needs --approvals.")
@click.option(
    "--approvals",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder of the silos' NAME.approval files for the successor.",
)
@click.pass_context
def serve(
    context: click.Context,
    file: Path,
    successor: Path | None,
    approvals: Path | None,
    *,
    as_json: bool,
    rotate_log_key: bool,
    recover: bool,
) -> None:
    """Run an appliance until SIGTERM or Ctrl-C, and start again what dies.

    With --rotate-log-key its first boot retires the log's key for good; silos follow to the new one by themselves. With
    --successor the log ends: silos cosign that, get the last model, and go on under the other agreement.

    With --recover it takes up a log whose key or model is lost (on another machine, say, or where the TEE keeps no key
    across restarts), once enough owners have agreed with `strongroom silo recover`.

    Exits with 0 when told to stop, 2 if its files, ports or store can't be used, 3 if the enclave refuses to start
    (another agreement, a damaged or older store), 4 if a process keeps failing.
    """
    if rotate_log_key and recover:
        raise Failure("expected one of --rotate-log-key and --recover, found both: a lost key can't hand over")
    config = _read_config(file)
    agreement = _read_agreement(config)
    _require_witnesses(config, agreement, file)
    if successor is not None and recover:
        raise Failure("expected one of --successor and --recover, found both: recover the log, then end it")
    if (successor is None) is not (approvals is None):
        raise Failure("expected --successor and --approvals together, found one of them")
    handover = None
    if successor is not None and approvals is not None:
        handover = Handover(successor=successor.absolute(), approvals=approvals.absolute())
    if agreement.simulated:
        click.secho(PROTECTS_NOTHING, fg="red", bold=True, err=True)

    def say_ready(ready: Ready) -> None:
        click.echo(json.dumps(_ready_summary(ready, agreement)) if as_json else _ready_in_words(ready, agreement))

    output = Output(ready=say_ready, line=lambda line: click.echo(line, err=True))
    try:
        ended = Supervisor(config, output, handover, rotate_log_key=rotate_log_key, recover=recover).run()
    except StoreUnusableError as error:
        raise Failure(str(error)) from error
    if ended is not Exit.ASKED:
        context.exit(int(ended))


@command.command(short_help="Say how a running appliance is.")
@_CONFIG
@_JSON
def status(file: Path, *, as_json: bool) -> None:
    """Ask a running appliance's enclave where the federation stands. Exits with 2 if none is running."""
    import grpc

    from protocol.wire import strongroom_pb2 as pb
    from protocol.wire import strongroom_pb2_grpc as rpc

    socket = Places.of(_read_config(file).store).socket
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stub = rpc.EnclaveStub(channel)  # type: ignore[no-untyped-call]
        try:
            found: pb.Description = stub.Describe(pb.Empty(), timeout=_STATUS_SECONDS)
        except grpc.RpcError as error:
            raise Failure(
                f"{socket}: expected a running appliance, found none; start it with `strongroom appliance serve`"
            ) from error
    summary = {
        "agreement": format_digest(found.agreement),
        "origin": found.origin,
        "boot_id": found.boot_id.hex(),
        "simulated": found.simulated,
        "phase": found.phase,
        "round": found.round,
        "attempt": found.attempt,
        "log_size": found.log_size,
        "admitted": list(found.admitted),
        "joined": list(found.joined),
        "waiting_for": list(found.waiting_for),
    }
    click.echo(json.dumps(summary, indent=2) if as_json else _status_in_words(summary))


command.add_command(measure_command)


def _read_config(file: Path) -> ApplianceConfig:
    with failing_in_words():
        return ApplianceConfig.parse(_read(file), file)


def _read_agreement(config: ApplianceConfig) -> Agreement:
    """The agreement, once its layout is the one beside it: so that a mix-up is said before anything is started."""
    with failing_in_words():
        agreement = Agreement.parse(_read(config.agreement), str(config.agreement))
    try:
        layout = Layout.parse(_read(config.layout))
    except ProtocolError as error:
        raise Failure(f"{config.layout}: {error}") from error
    if layout.digest != agreement.model.layout:
        raise Failure(
            f"{config.layout}: expected {format_digest(agreement.model.layout)}, as the agreement names it, "
            f"found {format_digest(layout.digest)}"
        )
    return agreement


def _require_witnesses(config: ApplianceConfig, agreement: Agreement, file: Path) -> None:
    """An address of a stranger asks nobody, and without addresses of enough witnesses nothing is ever released."""
    with failing_in_words():
        named = [agreement.witness(address.name).name for address in config.witnesses]
    required = agreement.log.required_witnesses
    if len(named) < required:
        raise Failure(
            f"{file}: expected [[witness]] tables with addresses of at least {required} of the agreement's witnesses, "
            f"found {len(named)}; without their cosignatures nothing is released"
        )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: expected a readable file, found {error.strerror or error}") from error


def _ready_summary(ready: Ready, agreement: Agreement) -> dict[str, object]:
    return {
        "event": "ready",
        **asdict(ready),
        "agreement": format_digest(agreement.digest),
        "origin": agreement.log.origin,
        "simulated": agreement.simulated,
    }


def _ready_in_words(ready: Ready, agreement: Agreement) -> str:
    return (
        f"ready: enrolment at {ready.enrolment}, federation at {ready.federation}, boot {ready.boot_id[:16]}, "
        f"agreement {format_digest(agreement.digest)}, "
        f"processes {ready.supervisor_pid} (supervisor) {ready.enclave_pid} (enclave) {ready.gateway_pid} (gateway)"
    )


def _status_in_words(summary: dict[str, object]) -> str:
    lists = {key: ", ".join(value) or "nobody" for key, value in summary.items() if isinstance(value, list)}
    shown = {key.replace("_", " "): lists.get(key, value) for key, value in summary.items() if key != "simulated"}
    lines = [f"{key:<11} {value}" for key, value in shown.items()]
    if summary["simulated"]:
        lines += ["", click.style(PROTECTS_NOTHING, fg="red", bold=True)]
    return "\n".join(lines)
