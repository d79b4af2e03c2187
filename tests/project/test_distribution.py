"""What `pip install` puts on a machine: one import name, whole, however it was packed."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parents[2]
TREES, FILES = ("mr", "workers", "coordinator"), ("pyproject.toml", "README.md", "LICENSE")
PRODUCT = {
    path.relative_to(ROOT).as_posix()
    for tree in TREES
    for path in (ROOT / tree).rglob("*")
    if path.suffix in {".py", ".lua", ".typed"}
}


def build(source: Path, kind: str, target: Path) -> Path:
    """Build `kind` (`sdist` or `wheel`) of the project in `source`; returns the file."""
    target.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = target.iterdir()
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, links as links: a build leaves files beside its sources."""
    copied = tmp_path_factory.mktemp("distribution") / "sources"
    copied.mkdir()
    for name in TREES:
        copytree(ROOT / name, copied / name, symlinks=True, ignore=ignore_patterns("__pycache__"))
    for name in FILES:
        copy(ROOT / name, copied)
    return copied


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    return build(sources, "wheel", sources.with_name("wheel"))


def contents(wheel: Path) -> set[str]:
    """The files that a wheel's RECORD lists."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        return {line.split(",")[0] for line in archive.read(record).decode().splitlines()}


def test_a_wheel_owns_one_import_name_and_holds_the_whole_product(wheel: Path) -> None:
    listed = contents(wheel)
    assert {name.split("/")[0] for name in listed if ".dist-info/" not in name} == {"mr"}
    packed = {name.removeprefix("mr/") for name in listed}
    assert {name.removeprefix("mr/") for name in PRODUCT} <= packed
    assert any(name.endswith(".lua") for name in PRODUCT)
    assert "py.typed" in packed


def test_a_wheel_made_from_the_source_distribution_is_the_same(
    sources: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(build(sources, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("mrmq-*")
    assert contents(build(unpacked, "wheel", tmp_path / "wheel")) == contents(wheel)


def test_an_installed_wheel_runs_without_the_sources(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", target, wheel], check=True)
    code = "import mr.workers.daemon.service, mr.coordinator.service, mr; print(mr.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == target / "mr" / "__init__.py"
