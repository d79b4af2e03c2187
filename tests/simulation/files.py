"""The file system that all share, as an fsspec protocol of its own: `sim://`. The real code writes to it."""

import io
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

FILES_AWAY = "the file system is away"


class Away(OSError):
    """The file system does not answer."""


class SimulatedFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Files by path. As on a disk, a file can only be written in a directory that was made."""

    protocol = "sim"
    #: The files of the simulation that runs.
    files: dict[str, bytes] = {}  # noqa: RUF012
    directories: set[str] = set()  # noqa: RUF012
    #: Asked before each rename and write: whether it fails.
    fails: Any = staticmethod(lambda: False)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("sim://").rstrip("/")

    def invalidate_cache(self, path: str | None = None) -> None:
        """Nothing is cached."""

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        if path in self.files:
            return {"name": path, "size": len(self.files[path]), "type": "file"}
        if path in self.directories or self._below(path):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def _below(self, path: str) -> list[str]:
        return [name for name in self.files if name.startswith(path + "/")]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether a file or a directory has this path."""
        path = self._strip_protocol(path)
        return path in self.files or path in self.directories or bool(self._below(path))

    def isfile(self, path: str) -> bool:
        """Whether a file has this path."""
        return self._strip_protocol(path) in self.files

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What lies directly in a directory. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        names = sorted({f"{path}/{name[len(path) + 1 :].split('/')[0]}" for name in self._below(path)})
        if not names and path not in self.directories:
            raise FileNotFoundError(path)
        return [self.info(name) for name in names] if detail else names

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and its parents."""
        path = self._strip_protocol(path)
        while path:
            self.directories.add(path)
            path = path.rpartition("/")[0]

    def _may_fail(self) -> None:
        if self.fails():
            raise Away(FILES_AWAY)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Rename a file. Raises FileNotFoundError."""
        self._may_fail()
        source = self._strip_protocol(path1)
        if source not in self.files:
            raise FileNotFoundError(source)
        self.files[self._strip_protocol(path2)] = self.files.pop(source)

    def rm_file(self, path: str) -> None:
        """Remove a file. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        if path not in self.files:
            raise FileNotFoundError(path)
        del self.files[path]

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove a file, or everything below a directory."""
        path = self._strip_protocol(path)
        self.files.pop(path, None)
        for name in self._below(path):
            del self.files[name]
        self.directories -= {name for name in self.directories if name == path or name.startswith(path + "/")}

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file; what is written is there when it is closed. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        if mode == "rb":
            if path not in self.files:
                raise FileNotFoundError(path)
            return io.BytesIO(self.files[path])
        self._may_fail()
        if path.rpartition("/")[0] not in self.directories:
            raise FileNotFoundError(path)
        return _Written(path)


class _Written(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            SimulatedFileSystem.files[self._path] = self.getvalue()
        super().close()


fsspec.register_implementation("sim", SimulatedFileSystem, clobber=True)
