"""`strongroom audit prove`: a receipt for an entry, out of a log's tiles."""

import sys
from pathlib import Path

import click

from audit.log_files import LogFiles
from audit.merkle import ProofError, inclusion_proof, leaf_hash, verify_inclusion
from audit.proof import Receipt
from audit.resources import CHECKPOINT, checkpoint_name, read_checkpoint
from audit.tiled_nodes import TiledNodes
from strongroom.commands.failure import Failure, failing_in_words

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Print a receipt for entry INDEX of STORE's log.")
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("index", type=click.IntRange(0))
@click.option("--at", "size", type=click.IntRange(1), help="Under the checkpoint of this size.  [default: the newest]")
@click.option("--out", type=_FILE, help="Write the receipt to this file.  [default: stdout]")
@click.option(
    "--entry", "entry_file", type=_FILE, help="Write the entry's bytes, which the receipt is for, to this file."
)
def command(store: Path, index: int, size: int | None, out: Path | None, entry_file: Path | None) -> None:
    """Print a receipt (C2SP tlog-proof) for entry INDEX of the log in STORE.

    The receipt leads from the entry's bytes to the signed checkpoint; the checkpoint's signatures are for whoever reads
    it to check: `audit check-receipt`, or any other reader of the format.
    """
    with failing_in_words():
        files = LogFiles.find(store)
        checkpoint = read_checkpoint(files, CHECKPOINT if size is None else checkpoint_name(size))
        if index >= checkpoint.size:
            raise Failure(f"INDEX: expected a number below {checkpoint.size}, the checkpoint's size, found {index}")
        nodes = TiledNodes(files, checkpoint.size)
        entry = nodes.entry(index)
        receipt = Receipt(index=index, proof=inclusion_proof(nodes, index, checkpoint.size), checkpoint=checkpoint)
        try:
            verify_inclusion(leaf=leaf_hash(entry), index=index, proof=receipt.proof, head=checkpoint.head)
        except ProofError as error:
            raise Failure(f"entry {index}: the store's tiles don't prove it (run audit verify): {error}") from error
    if entry_file is not None:
        _write(entry_file, entry)
    if out is not None:
        _write(out, receipt.encode())
    else:
        sys.stdout.write(receipt.encode().decode())


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise Failure(f"{file}: expected a file to write to, found {error.strerror or error}") from error
