"""What a job file declares about itself: `JOB = mr.Job(reduces=4, input_format="csv")`."""

import difflib
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import msgspec

from mr.error_text import safe_repr
from mr.errors import BadJob
from mr.protocol.option_values import requirement
from mr.protocol.options import Duration, GivenOptions, JobOptions, Size

Keywords = ParamSpec("Keywords")


def _keywords_of(
    options: Callable[Keywords, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, Keywords], None]]:
    """Let type checkers and editors see the keywords of `options` where a function takes `**options`."""
    return lambda function: function


class Job:
    """Defaults of a job, set at module level as `JOB`; any flag of the command line overrides them.

    The keywords are the fields of `mr.protocol.options.JobOptions`. Raises BadJob, naming the option that
    is unknown or has a value it cannot take.
    """

    @_keywords_of(JobOptions[None, Size, Duration])
    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in JobOptions.__struct_fields__:
                raise BadJob(_unknown_option(name))
        given = {name: value for name, value in options.items() if value is not None}
        try:
            self.options = msgspec.convert(given, GivenOptions)
        except msgspec.ValidationError as error:
            raise BadJob(_wrong_value(given, str(error))) from None

    def __repr__(self) -> str:
        given = msgspec.structs.asdict(self.options).items()
        return f"mr.Job({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"


def _unknown_option(name: str) -> str:
    known = JobOptions.__struct_fields__
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
    return f"mr.Job has no option {name!r}; {hint}"


def _wrong_value(options: dict[str, Any], complaint: str) -> str:
    path, words = requirement(complaint)
    shown = safe_repr(options.get(re.split(r"[.\[]", path)[0]), 80)
    return f"mr.Job option {path} cannot take {shown}: {words}"
