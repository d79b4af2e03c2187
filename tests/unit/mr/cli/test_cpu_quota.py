"""How many tasks run at a time by default: the cores that affinity and cgroups leave us."""

from pathlib import Path

import pytest

from mr.cli.cpu_quota import cores_within, parse_quota, quotas, usable_cores


def make(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000", 2.0),
        ("50000 100000", 0.5),
        ("max 100000", None),
        ("-1 100000", None),
        ("100000 0", None),
        ("", None),
        ("1 2 3", None),
    ],
)
def test_a_quota_is_read_in_cores(text: str, cores: float | None) -> None:
    assert parse_quota(text) == cores


@pytest.mark.parametrize(
    ("allowed", "limits", "cores"),
    [(8, [], 8), (8, [2.0], 2), (8, [1.5], 2), (8, [0.1], 1), (2, [16.0], 2), (8, [4.0, 2.5, 6.0], 3)],
)
def test_the_tightest_limit_counts_and_one_core_is_left(
    allowed: int, limits: list[float], cores: int
) -> None:
    assert cores_within(allowed, limits) == cores


def test_version_2_counts_every_group_from_ours_up(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "cpu.max": "400000 100000",
            "slice/cpu.max": "max 100000",
            "slice/unit/cpu.max": "150000 100000",
            "other/cpu.max": "10000 100000",
        },
    )
    assert quotas("0::/slice/unit\n", tmp_path) == [1.5, 4.0]


def test_version_1_counts_its_own_hierarchy(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "cpu/box/cpu.cfs_quota_us": "300000",
            "cpu/box/cpu.cfs_period_us": "100000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert quotas("9:name=systemd:/box\n4:cpu:/box\n3:cpuset:/x\n", tmp_path) == [3.0]


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    make(tmp_path, {"cpu.max": "200000 100000"})
    assert quotas("0::/../../docker/abc\n", tmp_path) == [2.0]


def test_a_machine_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert quotas("", tmp_path) == []
    assert usable_cores() >= 1
