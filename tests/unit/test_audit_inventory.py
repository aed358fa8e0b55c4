"""What a listing is taken for, by its names."""

import pytest

from audit.inventory import Inventory
from audit.log_files import Listed
from audit.tiles import Tile

DIGEST = bytes(range(32))
OBJECT = f"log/objects/sha256/00/{DIGEST.hex()}"


def take(*names: str) -> Inventory:
    return Inventory.take(Listed(name=name) for name in names)


def test_every_kind_of_file_is_known_by_its_name() -> None:
    inventory = take(
        "log/checkpoint",
        "log/checkpoints/12.note",
        "log/checkpoints/3.note",
        "log/tile/0/000",
        "log/tile/entries/x001/234.p/7",
        OBJECT,
        "log/.12-3.tmp",
        "log/objects/sha256/00/.1-0.tmp",
    )
    assert inventory.has_checkpoint
    assert tuple(inventory.notes) == (3, 12)
    assert inventory.tiles == {Tile(level=0, index=0), Tile(level=None, index=1234, width=7)}
    assert inventory.objects == {DIGEST}
    assert inventory.temporary == ("log/.12-3.tmp", "log/objects/sha256/00/.1-0.tmp")
    assert inventory.unknown == ()


@pytest.mark.parametrize(
    "name",
    [
        "log/Checkpoint",
        "log/checkpoint.bak",
        "log/checkpoints",
        "log/checkpoints/+3.note",
        "log/checkpoints/03.note",
        "log/checkpoints/\u0663.note",  # ARABIC-INDIC DIGIT THREE
        "log/checkpoints/9223372036854775808.note",
        "log/checkpoints/3.note\n",
        "log/tile/0/0",
        "log/tile/0/x000/001",
        "log/tile/64/000",
        "log/tile/entries/000.p/0",
        "log/tile/data/000",
        OBJECT.upper(),
        OBJECT.replace("/00/", "/01/"),
        OBJECT + "00",
        "log/.12-3.tmp.exe",
        "log/tmp",
    ],
)
def test_a_name_that_is_almost_one_is_unknown(name: str) -> None:
    inventory = take(name)
    assert len(inventory.unknown) == 1
    assert inventory.unknown[0][0].isprintable()


def test_what_is_no_file_is_unknown_whatever_it_is_called() -> None:
    inventory = Inventory.take([Listed(name="log/checkpoint", other="a symbolic link")])
    assert not inventory.has_checkpoint
    assert inventory.unknown == (("log/checkpoint", "a symbolic link"),)
