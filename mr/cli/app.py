"""The group of all commands."""

from typing import Any

import click

from mr.cli import daemons, dead, doctor, drain, inspect_jobs, results, retry_bad, run, settings, submit
from mr.cli.options import cluster_options, keep_cluster_flags


class Ordered(click.Group):
    """Lists its commands in the order in which a user needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in order of registration."""
        return list(self.commands)


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mrmq", prog_name="mr", message="%(prog)s %(version)s")
@cluster_options
def application(**flags: Any) -> None:
    """MapReduce on the RabbitMQ and Redis you already run.

    A job is a Python file with a map_fn and, for most, a reduce_fn. `mr run` runs it here, without
    any server; `mr submit` runs the same file on the cluster. Exit codes: 0 done, 1 job failed,
    2 wrong use or bad job, 3 cluster unreachable, 130 interrupted.
    """
    keep_cluster_flags(flags)


for command in (
    run.run,
    submit.submit,
    daemons.coordinator,
    daemons.worker,
    inspect_jobs.jobs,
    inspect_jobs.status,
    inspect_jobs.tasks,
    inspect_jobs.workers,
    drain.drain,
    results.results,
    results.logs,
    submit.watch,
    submit.cancel,
    submit.resume,
    retry_bad.retry_bad,
    submit.register,
    dead.dead,
    doctor.doctor,
    settings.schema,
    settings.settings,
):
    application.add_command(command)
