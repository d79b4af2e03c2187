"""Directories of processes that live are kept, those of dead ones go, and any other is left alone."""

from pathlib import Path

from mr.workers.daemon.directory_lock import MARK, clear_dead, mark_alive


def make(parent: Path, name: str) -> Path:
    directory = parent / name
    directory.mkdir()
    (directory / "file").write_text("x")
    return directory


def test_only_what_is_marked_and_held_by_nobody_is_cleared(tmp_path: Path) -> None:
    dead, alive, stranger = (make(tmp_path, name) for name in ("dead", "alive", "stranger"))
    mark_alive(dead).close()
    with mark_alive(alive):
        assert list(clear_dead(sorted(tmp_path.iterdir()))) == [dead]
    assert not dead.exists()
    assert (alive / "file").exists() and (stranger / "file").exists()
    assert list(clear_dead([alive, stranger])) == [alive]


def test_a_mark_is_locked_before_it_can_be_met(tmp_path: Path) -> None:
    directory = make(tmp_path, "new")
    with mark_alive(directory):
        assert sorted(path.name for path in directory.iterdir()) == [MARK, "file"]
        assert list(clear_dead([directory])) == []


def test_what_only_looks_like_a_mark_is_not_followed(tmp_path: Path) -> None:
    linked, piped, target = (make(tmp_path, name) for name in ("linked", "piped", "target"))
    mark_alive(target).close()
    (linked / MARK).symlink_to(target / MARK)
    (tmp_path / "link").symlink_to(target)
    (piped / MARK).mkdir()
    list(clear_dead([linked, tmp_path / "link", tmp_path / "absent", piped]))
    assert all((directory / "file").exists() for directory in (linked, piped, target))
