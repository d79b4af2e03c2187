"""`mr retry-bad`: the bad records of a job, run again with code that can take them."""

from pathlib import Path
from typing import Any

import click

from mr.cli.inspect_jobs import look
from mr.cli.logging import log_level
from mr.cli.options import Configured, job_options, quiet, slots_option, spool_option, with_settings
from mr.protocol.bad_records import READ_OPTIONS


@click.command("retry-bad")
@click.argument("job", metavar="OUT|ID")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.py")
@job_options
@click.option("--submit", is_flag=True, help="Run it on the cluster, and wait for it.")
@slots_option("-j")
@spool_option
@quiet
@log_level("error")
@with_settings
def retry_bad(
    job: str,
    job_file: Path,
    submit: bool,
    slots: int | None,
    spool: Path | None,
    quiet: bool,
    log_level: str,
    configured: Configured,
    **flags: Any,
) -> int:
    """Run only the records that a job skipped.

    OUT|ID: the job's output directory, or its id on the cluster. Give the job file as it is now, and the
    flags of the first run; how the input is read is taken from there. It is refused where an input file
    has changed since.
    """
    from mr.cli.run import run_here
    from mr.cli.submit import submit_job
    from mr.formats.output.directory import read_manifest

    output = job
    manifest = read_manifest(output)
    if manifest is None and not Path(output).exists() and "/" not in job:
        output = look(configured, lambda viewer: viewer.find(job)).output
        manifest = read_manifest(output)
    for name in READ_OPTIONS:
        if flags[name] is None and manifest is not None:
            flags[name] = manifest.read_as.get(name)
    flags["retry_bad"] = True
    if submit:
        return submit_job(job_file, (output,), flags, configured.settings, wait=True, quiet=quiet)
    return run_here(
        job_file, (output,), flags, configured, slots=slots, spool=spool, quiet=quiet, log_level=log_level
    )
