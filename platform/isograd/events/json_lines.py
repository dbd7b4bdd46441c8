"""Files of JSON objects, a line each, as runs and sweeps append to them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from isograd.errors import RunFolderError


class AppendedLines:
    """Appends JSON objects to a file, a line each; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO

    def __enter__(self) -> Self:
        whole = _ends_a_line(self._path)
        self._file = self._path.open("a", buffering=1, encoding="utf-8")
        if not whole:  # a process that was killed, or a disk that was full, left half a line
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Appends one object."""
        self._file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file, none where there is no file; a line that was left half-written is none.

    Raises:
        RunFolderError: The file cannot be read, or is no text.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        old, new = (shlex.quote(str(place)) for place in (path, path.with_name(f"{path.name}.mended")))
        raise RunFolderError(
            f"{path} holds bytes that are no UTF-8, the first at byte {error.start:,} of {len(error.object):,}",
            "It has a JSON object in each line, and something else has written into it, or its disk is damaged",
            f"Use `iconv -c -f utf-8 -t utf-8 {old} > {new} && mv {new} {old}`, which leaves them out, or a copy.",
        ) from error
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error.strerror})",
            "It holds what was measured",
            "Use a folder that you may read.",
        ) from error
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _ends_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                return True
            file.seek(-1, 2)
            return file.read() == b"\n"
    except FileNotFoundError:
        return True
