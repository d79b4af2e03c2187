"""`mr.Job`: its keywords are the table of options, to a type checker too."""

from pathlib import Path

import pytest
from mypy import api

import mr
from mr.errors import BadJob


def test_a_type_checker_sees_misspelt_options_and_wrong_values(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import mr\n"
        "mr.Job(reduces=2, split_size='64MiB', task_timeout=1.5, params={'a': 'b'})\n"
        "mr.Job(redcues=2)\n"
        "mr.Job(reduces='2')\n"
        "mr.Job(split_size=b'')\n"
    )
    told, _, _ = api.run(["--strict", "--no-error-summary", str(job)])
    lines = [line.partition("job.py:")[2] for line in told.splitlines() if "error:" in line]
    assert [line.partition(":")[0] for line in lines] == ["3", "4", "5"]
    assert "redcues" in lines[0]


@pytest.mark.parametrize("wrong", [{"redcues": 2}, {"reduces": "2"}, {"max_record_bytes": 0}])
def test_what_is_wrong_is_told_at_run_time_too(wrong: dict[str, object]) -> None:
    with pytest.raises(BadJob):
        mr.Job(**wrong)  # type: ignore[arg-type]
