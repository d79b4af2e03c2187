"""Importing a job file as a fresh module, with the modules that were bundled beside it."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from mr.errors import BadJob, MrError
from mr.workers.usercode.tracebacks import describe, last_user_line

#: Top-level names that a bundled module never takes: a `random.py` of a job must not break Python.
RESERVED = frozenset(sys.stdlib_module_names) | {"mr"}


class BundleFinder(importlib.abc.MetaPathFinder):
    """Finds the top-level modules of one unpacked bundle, before those installed on the worker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Look up a top-level module in the bundle; None for what it does not hold or must not serve."""
        if path is not None or name in RESERVED:
            return None
        return importlib.machinery.PathFinder.find_spec(name, [str(self.directory)], target)


def module_name(entry: str) -> str:
    """Name the module of a job file: its stem, or `job_<stem>` where another module has that name."""
    stem = Path(entry).stem.replace(".", "_")
    return f"job_{stem}" if stem in RESERVED or stem in sys.modules else stem


def import_job_file(directory: Path, entry: str) -> ModuleType:
    """Execute the job file `directory/entry` as a fresh module; what an earlier bundle imported is dropped.

    Raises BadJob with one line that names the file and the line, when it has no valid syntax, raises
    an exception or ends the process by `sys.exit`.
    """
    directory = directory.resolve()
    path = directory / entry
    if not path.is_file() or path.resolve().parent != directory:
        raise BadJob(f"{entry} is not in the bundle; submit the job again")
    _forget_earlier_bundles()
    sys.meta_path.insert(0, BundleFinder(directory))
    importlib.invalidate_caches()
    name = module_name(entry)
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise BadJob(f"{entry} cannot be imported as a Python module; give it a name ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _execute(loader, module, directory, entry)
    return module


def _execute(
    loader: importlib.machinery.SourceFileLoader, module: ModuleType, directory: Path, entry: str
) -> None:
    """Run the module's body. No bytecode is written: the directory is shared and read only."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.modules.pop(module.__name__, None)
        raise BadJob(explain_import_error(error, directory, entry)) from error
    finally:
        sys.dont_write_bytecode = before


def _forget_earlier_bundles() -> None:
    """Take the finders of earlier bundles away, and the modules that came from their directories."""
    for finder in [f for f in sys.meta_path if isinstance(f, BundleFinder)]:
        sys.meta_path.remove(finder)
        prefix = f"{finder.directory}/"
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            places = [
                getattr(spec, "origin", None),
                *(getattr(spec, "submodule_search_locations", None) or ()),
            ]
            if any(str(place).startswith(prefix) for place in places):
                del sys.modules[name]


def explain_import_error(error: BaseException, directory: Path, entry: str) -> str:
    """Say on one line what stopped the import of a job file, with file and line."""
    if isinstance(error, SyntaxError) and error.filename:
        name = error.filename.removeprefix(f"{directory}/")
        code = f": {error.text.strip()[:100]}" if error.text and error.text.strip() else ""
        return f"{name}, line {error.lineno}: {type(error).__name__}: {error.msg}{code}"
    name, line = last_user_line(error.__traceback__, directory) or (entry, 0)
    place = f"{name}, line {line}" if line else name
    if isinstance(error, SystemExit):
        return (
            f"{place}: the file raises SystemExit (sys.exit) while it is imported; "
            'put that under `if __name__ == "__main__":`'
        )
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f"; if {error.name} is a file of yours, add --include {error.name}.py, else install it"
    elif isinstance(error, MrError):
        return f"{place}: {error}"
    return f"{place}: {describe(error)}{hint}"
