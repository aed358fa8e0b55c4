"""Folders, their users, and the trial whether two users are possible."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import privileges
from appliance.config import DEFAULT_USERS
from appliance.places import Places, StoreUnusableError
from appliance.privileges import Needs, obstacle, separate

NOTHING = Needs(packages=(), readable=(), writable=())
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own can't be."""
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def store_in(folder: Path) -> Places:
    places = Places(store=folder / "store")
    os.close(places.lock())
    return places


def may(user: int, flag: str, path: Path) -> bool:
    return (
        subprocess.run(["test", flag, str(path)], user=user, group=DEFAULT_USERS.group, extra_groups=[]).returncode == 0
    )


@as_root
def test_the_gateway_reads_what_it_serves_and_cannot_touch_the_rest(open_folder: Path) -> None:
    places = store_in(open_folder)
    places.prepare(DEFAULT_USERS, separate=True)
    state, entry, model = places.store / "state" / "x.sealed", places.store / "log" / "entry", places.models / "m.blob"
    for path in (state, entry, model):
        path.write_bytes(b"x")
        os.chown(path, DEFAULT_USERS.enclave, DEFAULT_USERS.group)
        path.chmod(0o640)
    gateway, enclave = DEFAULT_USERS.gateway, DEFAULT_USERS.enclave
    assert may(gateway, "-r", model)
    assert may(gateway, "-w", places.spool)
    for folder in (places.store, places.store / "log", places.models, places.runtime):
        assert not may(gateway, "-w", folder)
    for path in (state, state.parent):
        assert not may(gateway, "-r", path)
    for path in (entry, model):
        assert not may(gateway, "-w", path)
    assert may(gateway, "-x", places.runtime)
    assert may(enclave, "-r", state)
    assert may(enclave, "-r", places.spool)
    assert not may(enclave, "-w", places.spool)


@as_root
def test_a_store_changes_hands_whole_and_back(open_folder: Path) -> None:
    places = store_in(open_folder)
    places.prepare(DEFAULT_USERS, separate=False)
    (places.store / "log" / "tile").mkdir()
    (places.store / "log" / "tile" / "0").write_bytes(b"x")
    outside = open_folder / "outside"
    outside.write_bytes(b"x")
    (places.store / "log" / "link").symlink_to(outside)
    places.prepare(DEFAULT_USERS, separate=True)
    assert (places.store / "log" / "tile" / "0").stat().st_uid == DEFAULT_USERS.enclave
    assert outside.stat().st_uid == os.geteuid()
    places.prepare(DEFAULT_USERS, separate=False)
    assert (places.store / "log" / "tile" / "0").stat().st_uid == os.geteuid()


@as_root
def test_a_strangers_folder_is_not_taken_over(open_folder: Path) -> None:
    places = store_in(open_folder)
    places.prepare(DEFAULT_USERS, separate=False)
    os.chown(places.spool, 12_345, 12_345)
    with pytest.raises(StoreUnusableError, match="found it to be user 12345's"):
        places.prepare(DEFAULT_USERS, separate=True)


def test_a_link_in_a_folders_place_is_refused(tmp_path: Path) -> None:
    places = store_in(tmp_path)
    places.prepare(DEFAULT_USERS, separate=False)
    places.models.rmdir()
    (tmp_path / "elsewhere").mkdir()
    places.models.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnusableError, match="expected a folder"):
        places.prepare(DEFAULT_USERS, separate=False)


def test_a_file_in_the_stores_place_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StoreUnusableError):
        Places(store=tmp_path / "store").lock()


@pytest.mark.parametrize("depth", [1, 200])
def test_the_sockets_path_is_never_too_long(tmp_path: Path, depth: int) -> None:
    places = Places(store=tmp_path / ("s" * depth))
    places.store.mkdir()
    places.prepare(DEFAULT_USERS, separate=False)
    try:
        assert len(os.fsencode(places.socket)) <= 107
        assert places.runtime.stat().st_mode & 0o7777 == 0o710
        assert Places(store=places.store).socket == places.socket
        assert Places(store=tmp_path / ("t" * depth)).socket != places.socket
    finally:
        shutil.rmtree(places.runtime)


def test_without_root_there_is_one_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "is_root", lambda: False)
    assert separate(DEFAULT_USERS, NOTHING, NOTHING) == "the appliance doesn't run as root"


@as_root
def test_an_interpreter_that_others_cannot_run_is_found_out_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python").symlink_to("/usr/bin/python3")
    tmp_path.chmod(0o700)
    monkeypatch.setattr(privileges.sys, "executable", str(tmp_path / "python"))
    why_not = obstacle(DEFAULT_USERS.enclave, DEFAULT_USERS.group, NOTHING)
    assert why_not == f"user {DEFAULT_USERS.enclave} can't run {tmp_path}/python: Permission denied"


@as_root
@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="needs a system's interpreter")
def test_what_the_user_cannot_reach_is_named(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges.sys, "executable", "/usr/bin/python3")
    user, group = DEFAULT_USERS.gateway, DEFAULT_USERS.group
    assert obstacle(user, group, Needs(packages=("json",), readable=(open_folder,), writable=())) is None
    secret = open_folder / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    wanted = Needs(packages=(), readable=(secret,), writable=())
    assert obstacle(user, group, wanted) == f"user {user} can't read {secret}"
    wanted = Needs(packages=(), readable=(), writable=(open_folder,))
    assert obstacle(user, group, wanted) == f"user {user} can't write {open_folder}"
    wanted = Needs(packages=("no_such_package",), readable=(), writable=())
    assert obstacle(user, group, wanted) == f"user {user} can't import no_such_package"
