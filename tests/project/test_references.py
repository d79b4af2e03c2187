"""The end-to-end tests' own yardstick: it must notice every kind of wrong output."""

from pathlib import Path

import pytest

from tests.e2e.references import check_groups, input_files, records, same_parts, word_count

EXPECTED = {"a": [b"a\t1"], "b": [b"b\t2", b"b\t3"], "c": [b"c\t4"]}


def write(directory: Path, *parts: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    for index, content in enumerate(parts):
        (directory / f"part-{index:05d}").write_bytes(content)
    return directory


def test_any_partition_of_the_keys_is_right(tmp_path: Path) -> None:
    check_groups(write(tmp_path / "one", b"a\t1\nb\t2\nb\t3\nc\t4\n"), EXPECTED)
    check_groups(write(tmp_path / "two", b"b\t2\nb\t3\n", b"", b"a\t1\nc\t4\n"), EXPECTED)


@pytest.mark.parametrize(
    "parts",
    [
        (b"a\t1\nb\t2\nb\t3\n",),
        (b"a\t1\nb\t2\nb\t3\nc\t4",),
        (b"b\t2\nb\t3\na\t1\nc\t4\n",),
        (b"a\t1\nb\t3\nb\t2\nc\t4\n",),
        (b"a\t1\nb\t2\nc\t4\n", b"b\t3\n"),
        (b"a\t1\nb\t2\nb\t3\nc\t4\n", b"a\t1\n"),
        (b"a\t1\nb\t2\nb\t3\nc\t5\n",),
        (b"a\t1\nb\t2\nb\t3\nc\t4\nd\t1\n",),
    ],
    ids=[
        "key missing",
        "no last newline",
        "not sorted",
        "values out of order",
        "key torn apart",
        "key twice",
        "wrong value",
        "key too many",
    ],
)
def test_wrong_output_is_noticed(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    with pytest.raises(AssertionError):
        check_groups(write(tmp_path / "output", *parts), EXPECTED)


def test_same_parts_compares_names_and_bytes(tmp_path: Path) -> None:
    left = write(tmp_path / "left", b"a\t1\n", b"")
    same_parts(left, write(tmp_path / "right", b"a\t1\n", b""))
    for index, parts in enumerate([(b"a\t1\n",), (b"a\t2\n", b""), (b"", b"a\t1\n")]):
        with pytest.raises(AssertionError):
            same_parts(left, write(tmp_path / f"wrong-{index}", *parts))
    with pytest.raises(AssertionError):
        same_parts(tmp_path / "absent", tmp_path / "absent")


def test_records_by_the_rules_of_text_input(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\ntwo\rthree\n\xff")
    assert list(records(path)) == [(0, "one"), (8, ""), (9, "two\rthree"), (19, "\ufffd")]


def test_inputs_leave_out_hidden_names(tmp_path: Path) -> None:
    for name in ("b/x", "a", "_a", ".a", "_b/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("word\n")
    files = input_files(tmp_path)
    assert [str(f.relative_to(tmp_path)) for f in files] == ["a", "b/x"]
    assert word_count(files) == {"word": [b"word\t2"]}
