"""Inputs: what a user names becomes a list of files, or one clear error."""

import os
import socket
from pathlib import Path

import fsspec
import pytest

from mr.errors import BadInput
from mr.formats.input.files import InputFile, list_inputs


def make(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def names(directory: Path, *patterns: str) -> list[str]:
    found = list_inputs([str(directory / pattern) for pattern in patterns])
    return [os.path.relpath(file.path, directory) for file in found]


def test_a_file_is_listed_with_its_absolute_path_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.txt")
    monkeypatch.chdir(tmp_path)
    assert list_inputs(["a.txt"]) == (InputFile(str(tmp_path / "a.txt"), 5),)


def test_a_directory_is_listed_recursively_by_path_without_hidden_names(tmp_path: Path) -> None:
    make(tmp_path, "in/b", "in/a/z", "in/_SUCCESS", "in/.cache/x", "in/_temporary/y", "in/a/.z.swp", "in/c_d")
    assert names(tmp_path, "in") == ["in/a/z", "in/b", "in/c_d"]


def test_a_glob_gives_its_matches_sorted_and_directories_among_them_whole(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a.txt", "c.log", "d.txt/inner", "_x.txt", ".y.txt")
    assert names(tmp_path, "*.txt") == ["a.txt", "b.txt", "d.txt/inner"]


def test_a_double_star_reaches_every_depth_but_no_hidden_directory(tmp_path: Path) -> None:
    make(tmp_path, "x/a.txt", "x/y/b.txt", "x/_temporary/c.txt", "x/y/_SUCCESS")
    assert names(tmp_path, "x/**/*.txt") == ["x/a.txt", "x/y/b.txt"]


def test_a_glob_that_asks_for_a_hidden_name_gets_it(tmp_path: Path) -> None:
    make(tmp_path, "_part-1", "_part-2", "part-3")
    assert names(tmp_path, "_part-*") == ["_part-1", "_part-2"]


def test_a_hidden_directory_above_the_glob_does_not_unhide_what_is_below(tmp_path: Path) -> None:
    make(tmp_path, "_data/part-0", "_data/_SUCCESS")
    assert names(tmp_path, "_data/*") == ["_data/part-0"]


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    make(tmp_path, "a[1].txt", "a1.txt")
    assert names(tmp_path, "a[1].txt") == ["a[1].txt"]


def test_each_path_counts_once_where_it_is_mentioned_first(tmp_path: Path) -> None:
    make(tmp_path, "a", "b", "c")
    assert names(tmp_path, "c", ".", "./b", "*") == ["c", "a", "b"]


def test_a_linked_file_is_read_a_linked_directory_below_is_not(tmp_path: Path) -> None:
    make(tmp_path, "in/a", "elsewhere/b")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere/b")
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "whole").symlink_to(tmp_path / "in")
    assert names(tmp_path, "in") == ["in/a", "in/link"]
    assert names(tmp_path, "whole") == ["whole/a", "whole/link"]


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    make(tmp_path, "a b")
    assert list_inputs([(tmp_path / "a b").as_uri()]) == (InputFile(str(tmp_path / "a b"), 3),)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nothing", "no such file or directory: {}/nothing"),
        ("no*thing", "no file matches {}/no*thing"),
        ("empty", "the directory {}/empty holds no input file"),
        ("dangling", "{}/dangling is a link to nothing"),
        ("pipe", "{}/pipe is neither a file nor a directory"),
        ("socket", "{}/socket is neither a file nor a directory"),
        ("a/b", "no such file or directory: {}/a/b"),
        ("x" * 300, "File name too long"),
        ("null\0", "is not a path"),
        ("odd", "is not UTF-8; rename the file"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, message: str
) -> None:
    make(tmp_path, "a", "empty/_hidden", os.fsdecode(b"odd/\xff"))
    (tmp_path / "dangling").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(BadInput) as caught:
            list_inputs([f"{tmp_path}/{pattern}"])
    assert message.format(tmp_path) in str(caught.value)


def test_pipes_inside_a_directory_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "in/a")
    os.mkfifo(tmp_path / "in/pipe")
    assert names(tmp_path, "in", "in/*") == ["in/a"]


def test_an_unreadable_file_is_refused_when_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "in/a")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BadInput, match="in/a cannot be read: Permission denied"):
        list_inputs([str(tmp_path)])


@pytest.mark.parametrize("patterns", [[], [""]])
def test_no_input_at_all_is_refused(patterns: list[str]) -> None:
    with pytest.raises(BadInput, match=r"name (at least one|a) file"):
        list_inputs(patterns)


class TestUrls:
    @pytest.fixture(autouse=True)
    def files(self) -> None:
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        for name in ("in/b.txt", "in/a/z.txt", "in/_SUCCESS", "in/.x", "in/a/_y/w.txt", "other/c.txt"):
            memory.pipe_file(f"/{name}", name.encode())

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("memory://in/b.txt", ["in/b.txt"]),
            ("memory://in", ["in/a/z.txt", "in/b.txt"]),
            ("memory://in/", ["in/a/z.txt", "in/b.txt"]),
            ("memory://in/*", ["in/a/z.txt", "in/b.txt"]),
            ("memory://**/*.txt", ["in/a/z.txt", "in/b.txt", "other/c.txt"]),
        ],
    )
    def test_urls_are_listed_like_paths(self, pattern: str, expected: list[str]) -> None:
        assert list_inputs([pattern]) == tuple(InputFile(f"memory:///{name}", len(name)) for name in expected)

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("memory://nothing", "no such file or directory: memory://nothing"),
            ("memory://noth*", "no input file in memory://noth"),
            ("nosuch://x/y", "nosuch://x/y: ValueError: Protocol not known: nosuch"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, pattern: str, message: str) -> None:
        with pytest.raises(BadInput) as caught:
            list_inputs([pattern])
        assert message in str(caught.value)
