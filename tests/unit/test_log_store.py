"""The store: names that lead nowhere else, writes whole or not at all, and sinks that nobody sees before commit."""

import os
import threading

import pytest

from audit.store import DirectoryStore, MemoryStore, NotFound, StoreError


@pytest.fixture(params=["directory", "memory"])
def store(request, tmp_path):
    return DirectoryStore(tmp_path / "store") if request.param == "directory" else MemoryStore()


@pytest.fixture
def directory(tmp_path):
    return DirectoryStore(tmp_path / "store")


def test_what_was_written_is_read(store):
    store.write("log/tile/0/000.p/1", b"one")
    store.write("log/tile/0/000.p/1", b"two")
    store.write("empty", b"")
    assert store.read("log/tile/0/000.p/1") == b"two"
    assert store.read("empty") == b""
    assert store.exists("empty")


def test_missing_names(store):
    assert not store.exists("log/none")
    store.delete("log/none")
    for call in (store.read, store.open):
        with pytest.raises(NotFound):
            call("log/none")
    assert store.list("log/") == []


def test_deleted_names_are_gone(store):
    store.write("a/b", b"1")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert store.list("") == []


def test_lists_are_sorted_and_by_prefix(store):
    for name in ("b", "a/c", "a/b/d", "a/bc", "ab/x"):
        store.write(name, b"")
    assert store.list("") == ["a/b/d", "a/bc", "a/c", "ab/x", "b"]
    assert store.list("a/") == ["a/b/d", "a/bc", "a/c"]
    assert store.list("a/b") == ["a/b/d", "a/bc"]
    assert store.list("a/b/") == ["a/b/d"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/./b",
            "a//b",
            "a/",
            ".hidden",
            "a/.tmp",
        ),
        *("a b", "a\x00b", "a\nb", "a\\b", "é", "a" * 129, "/".join("a" * 17), "~", "a:b", "b\n"),
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(store, name):
    for call in (store.read, store.open, store.exists, store.delete):
        with pytest.raises(StoreError, match="expected a relative name"):
            call(name)
    with pytest.raises(StoreError, match="expected a relative name"):
        store.write(name, b"")
    with pytest.raises(StoreError, match="expected a relative name"):
        store.create(name, 1)


def test_reads_are_bounded(store):
    store.write("big", bytes(11))
    with pytest.raises(StoreError, match="expected at most 10 bytes, found 11"):
        store.read("big", limit_bytes=10)


def test_sources_read_exactly_or_raise(store):
    store.write("blob", bytes(range(100)))
    source = store.open("blob")
    assert source.size() == 100
    buffer = bytearray(10)
    source.read_into(90, buffer)
    assert buffer == bytes(range(90, 100))
    source.read_into(5, memoryview(buffer)[2:4])
    assert buffer[2:4] == bytes([5, 6])
    for offset in (91, 100, 1000, -1, -50):
        with pytest.raises(StoreError):
            source.read_into(offset, buffer)
    source.close()


def test_a_sink_is_seen_only_after_commit(store):
    store.write("blob", b"old")
    sink = store.create("blob", 6)
    sink.write_at(3, b"def")
    assert store.read("blob") == b"old"
    sink.write_at(0, memoryview(b"abc"))
    sink.commit()
    sink.discard()
    assert store.read("blob") == b"abcdef"


def test_a_discarded_sink_leaves_nothing(store, tmp_path):
    store.write("blob", b"old")
    sink = store.create("blob", 3)
    sink.write_at(0, b"new")
    sink.discard()
    sink.discard()
    assert store.read("blob") == b"old"
    assert store.list("") == ["blob"]
    assert [name for _, _, names in os.walk(tmp_path) for name in names] in ([], ["blob"])


@pytest.mark.parametrize("offset", [-1, 1, 4, 100])
def test_a_sink_does_not_grow(store, offset):
    sink = store.create("blob", 3)
    with pytest.raises(StoreError, match="expected bytes within 3"):
        sink.write_at(offset, b"abc")
    sink.discard()


def test_threads_write_distinct_ranges(store):
    piece = 1000
    sink = store.create("blob", 16 * piece)

    def work(start):
        for number in range(start, 16, 4):
            sink.write_at(number * piece, bytes([number]) * piece)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.commit()
    assert store.read("blob") == b"".join(bytes([number]) * piece for number in range(16))


def test_an_open_source_outlives_replacement(store):
    store.write("blob", b"old")
    source = store.open("blob")
    store.write("blob", b"new")
    buffer = bytearray(3)
    source.read_into(0, buffer)
    assert buffer == b"old"


def test_links_are_refused_wherever_they_stand(directory, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    directory.write("log/real", b"real")
    (tmp_path / "store" / "log" / "link").symlink_to(outside / "secret")
    (tmp_path / "store" / "folder").symlink_to(outside)
    (tmp_path / "store" / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("log/link", "folder/secret", "dangling"):
        for call in (directory.read, directory.open, directory.exists):
            with pytest.raises(StoreError, match="symbolic link"):
                call(name)
    with pytest.raises(StoreError, match="symbolic link"):
        directory.write("folder/new", b"x")
    with pytest.raises(StoreError):
        directory.list("folder/")
    assert sorted(os.listdir(outside)) == ["secret"]
    # A write replaces a link, and does not follow it.
    directory.write("log/link", b"mine")
    assert (outside / "secret").read_bytes() == b"secret"
    assert directory.read("log/link") == b"mine"


def test_links_are_listed_so_that_nothing_hides_behind_them(directory, tmp_path):
    directory.write("log/real", b"real")
    (tmp_path / "store" / "log" / "link").symlink_to(tmp_path)
    assert directory.list("log/") == ["log/link", "log/real"]


def test_what_is_no_file_is_refused_and_does_not_hang(directory, tmp_path):
    directory.write("log/real", b"real")
    os.mkfifo(tmp_path / "store" / "log" / "fifo")
    with pytest.raises(StoreError, match="regular file"):
        directory.read("log/fifo")
    with pytest.raises(StoreError, match="regular file"):
        directory.read("log")
    with pytest.raises(StoreError):
        directory.write("log", b"")
    with pytest.raises(StoreError):
        directory.write("log/real/below", b"")
    assert directory.read("log/real") == b"real"


@pytest.mark.parametrize(("mode", "folder_mode"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755)])
def test_files_and_folders_get_their_modes_whatever_the_umask(tmp_path, mode, folder_mode):
    before = os.umask(0o077)
    try:
        store = DirectoryStore(tmp_path / "store", file_mode=mode)
        store.write("a/b/c", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "store/a/b/c").stat().st_mode & 0o777 == mode
    assert (tmp_path / "store/a/b").stat().st_mode & 0o777 == folder_mode


@pytest.mark.parametrize("call", ["fsync", "rename", "pwrite", "ftruncate", "open"])
@pytest.mark.parametrize("persisted", [False, True])
def test_a_failing_system_call_leaves_old_or_new_and_no_litter(directory, tmp_path, monkeypatch, call, persisted):
    directory.write("a/b", b"old")
    real = getattr(os, call)
    failed = []

    def failing(*args, **kwargs):
        # Only once, and only on the file's own calls, not while the folders above it are opened.
        if not failed and (call != "open" or args[1] & os.O_CREAT):
            failed.append(call)
            if persisted and call in ("fsync", "rename"):
                real(*args, **kwargs)
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(StoreError, match="a/b: No space left on device"):
        directory.write("a/b", b"new")
    monkeypatch.undo()
    assert failed
    assert directory.read("a/b") in (b"old", b"new")
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == ["b"]


def test_leftovers_of_a_crash_are_unseen_and_can_be_removed(directory, tmp_path):
    directory.write("a/b", b"kept")
    directory.create("a/c", 5)  # The process dies here.
    assert directory.list("") == ["a/b"]
    assert len(os.listdir(tmp_path / "store" / "a")) == 2
    directory.settle()
    assert os.listdir(tmp_path / "store" / "a") == ["b"]


def test_an_occupied_temporary_name_is_passed_over(directory, tmp_path):
    (tmp_path / "store" / f".{os.getpid()}-0.tmp").symlink_to(tmp_path / "elsewhere")
    directory.write("b", b"mine")
    assert directory.read("b") == b"mine"
    assert not (tmp_path / "elsewhere").exists()
