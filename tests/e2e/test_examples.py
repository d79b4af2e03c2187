"""Every example on real text, embedded and on a cluster, against an independent reference."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import example_inputs
from tests.e2e.examples import ALL, EXAMPLES, Example
from tests.e2e.references import input_files, same_parts
from tests.support.cluster import Cluster

each_example = pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)


@each_example
def test_embedded_output_is_the_reference(
    example: Example, text: Path, embedded: Callable[[Example], Path]
) -> None:
    output = embedded(example)
    inputs = example_inputs(example, text, embedded)
    example.check(output, [file for directory in inputs for file in input_files(directory)])


@each_example
def test_cluster_output_is_the_embedded_output(
    example: Example, text: Path, embedded: Callable[[Example], Path], cluster: Cluster, tmp_path: Path
) -> None:
    inputs = example_inputs(example, text, embedded)
    output = tmp_path / "output"
    cluster.succeed("submit", EXAMPLES / example.job, *inputs, "-o", output, *example.flags, "--wait")
    same_parts(embedded(example), output)
    assert sorted(p.name for p in output.iterdir() if not p.name.startswith("part-")) == ["_SUCCESS"]
