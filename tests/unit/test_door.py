"""The file-system door keeps everything below its root and never leaves half a file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from demand_maint._storage.door import TEMP, Door
from demand_maint._storage.reading import FileTooLargeError, read_regular_file
from demand_maint.errors import PathError

BAD_PATHS = [
    "",
    "..",
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/.",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "a\\..\\b",
    "a/",
    "\u202ea",
]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """Give a door to a folder that does not exist yet."""
    return Door(tmp_path / "root")


@pytest.mark.parametrize("rel", BAD_PATHS)
def test_a_path_that_could_leave_the_root_is_refused_by_every_method(door: Door, rel: str) -> None:
    """No method of the door accepts a path that is absolute, climbs, or hides control characters."""
    door.makedirs()
    calls: list[Callable[[], object]] = [
        lambda: door.read_bytes(rel),
        lambda: door.exists(rel),
        lambda: door.listdir(rel),
        lambda: door.makedirs(rel),
        lambda: door.write_new(rel, b""),
        lambda: door.replace(rel, b""),
        lambda: door.put_if_absent(rel, b""),
        lambda: door.append(rel, b""),
        lambda: door.rename(rel, "x"),
        lambda: door.rename("x", rel),
        lambda: door.link_new("x", rel),
        lambda: door.unlink(rel),
        lambda: door.rmtree(rel),
        lambda: door.create_mapped(rel, 64),
        lambda: door.open_mapped(rel),
        lambda: door.write_frame(rel, lambda _: None),
        lambda: door.path(rel),
    ]
    for call in calls:
        with pytest.raises(PathError):
            call()
    assert door.listdir() == []


def test_a_symbolic_link_is_never_followed_out_of_the_root(door: Door, tmp_path: Path) -> None:
    """A link to a file or a directory outside is neither read nor written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    door.makedirs()
    (door.root / "link").symlink_to(outside)
    (door.root / "file").symlink_to(outside / "secret")
    escapes: list[Callable[[], object]] = [
        lambda: door.read_bytes("link/secret"),
        lambda: door.write_new("link/new", b"x"),
        lambda: door.replace("link/secret", b"x"),
        lambda: door.unlink("link/secret"),
        lambda: door.listdir("link/sub"),
        lambda: door.read_bytes("file"),
    ]
    for call in escapes:
        with pytest.raises(PathError):
            call()
    with pytest.raises(OSError, match="symbolic"):
        door.append("file", b"x")
    with pytest.raises(FileExistsError):
        door.write_new("file", b"x")
    door.replace("file", b"mine")
    door.rmtree("link")
    assert (outside / "secret").read_bytes() == b"secret"
    assert door.read_bytes("file") == b"mine"


def test_what_is_no_regular_file_is_refused_without_waiting(door: Door) -> None:
    """A FIFO, a directory and a file over the limit give a typed error at once."""
    door.makedirs("folder")
    os.mkfifo(door.root / "fifo")
    door.write_new("big", b"x" * 100)
    for rel in ("fifo", "folder"):
        with pytest.raises(PathError):
            door.read_bytes(rel)
    with pytest.raises(FileTooLargeError):
        door.read_bytes("big", limit=99)
    with pytest.raises(PathError):
        read_regular_file("no\0path")
    assert door.read_bytes("big", limit=100) == b"x" * 100


def test_replace_and_put_if_absent_are_whole_or_not_at_all(door: Door) -> None:
    """The second content replaces the first, a taken name stays taken, and no temporary file is left."""
    door.replace("a/b/file", b"one")
    door.replace("a/b/file", b"two")
    assert door.put_if_absent("a/b/once", b"first")
    assert not door.put_if_absent("a/b/once", b"second")
    assert (door.read_bytes("a/b/file"), door.read_bytes("a/b/once")) == (b"two", b"first")
    assert door.listdir("a/b") == ["file", "once"]


def test_append_ends_a_torn_line_first(door: Door) -> None:
    """A line that a killed writer left unfinished does not swallow the next one."""
    door.makedirs()
    door.append("lines", b"whole\n")
    door.append("lines", b"to")
    door.append("lines", b"next\n", sync=True)
    assert door.read_bytes("lines") == b"whole\nto\nnext\n"


def test_a_mapped_file_has_its_blocks_and_keeps_what_was_written(door: Door) -> None:
    """Its head and bytes stored through the mapping are in the file, and the file cannot be made twice."""
    door.makedirs()
    with door.create_mapped("segment", 4096, b"-- head") as mapped:
        assert mapped[:9] == b"-- head\0\0"
        mapped[:4] = b"data"
    with pytest.raises(FileExistsError):
        door.create_mapped("segment", 4096)
    with door.open_mapped("segment") as mapped:
        assert mapped[:4] == b"data"
    assert door.entry("segment").st_size == 4096


def test_several_names_are_looked_up_at_once(door: Door, tmp_path: Path) -> None:
    """Each name gets its answer, a missing directory has none, and a link above them is refused as ever."""
    door.makedirs("commits")
    stamp = door.replace("commits/1", b"first")
    assert door.which("commits", ("1", "2")) == [True, False]
    assert door.which("nowhere/at/all", ("1",)) == [False]
    assert stamp == door.stamp("commits/1")
    (tmp_path / "elsewhere").mkdir()
    (door.root / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PathError, match="symbolic link"):
        door.which("linked", ("1",))


def test_a_library_writes_a_whole_file_or_none(door: Door) -> None:
    """A writer that fails half-way leaves the old file as it was and nothing else."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("disk gone")

    door.write_frame("data/frame", lambda path: path.write_bytes(b"whole"))
    with pytest.raises(RuntimeError, match="disk gone"):
        door.write_frame("data/frame", fail)
    assert door.read_bytes("data/frame") == b"whole"
    assert door.listdir("data") == ["frame"]


def test_the_sweep_takes_only_what_nobody_works_on(door: Door) -> None:
    """Left-over temporary files and directories go; one whose maker still holds it stays."""
    door.makedirs("work")
    door.write_new(f"work/{TEMP}0-dead", b"")
    door.makedirs(f"work/{TEMP}1-building")
    door.write_new(f"work/{TEMP}1-building/part", b"")
    door.write_new("work/file", b"")
    with door.building_dir("work") as alive:
        removed = door.sweep("work")
        assert door.exists(alive)
    assert removed == [f"work/{TEMP}0-dead", f"work/{TEMP}1-building"]
    assert door.listdir("work") == ["file"]


def test_renaming_a_directory_never_replaces_another(door: Door) -> None:
    """A directory takes a free name only."""
    for name in ("one", "two"):
        door.makedirs(name)
        door.write_new(f"{name}/file", name.encode())
    assert not door.rename_new("one", "two")
    assert door.rename_new("one", "three")
    assert door.read_bytes("three/file") == b"one"
    assert door.read_bytes("two/file") == b"two"
