"""isograd as users call it: in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import isograd
from tests.processes import HUNG_S

Done = subprocess.CompletedProcess[str]


def called(*arguments: str, cwd: Path | None = None, before: tuple[str, ...] = (), **environment: str | None) -> Done:
    """Runs Python with this isograd.

    Args:
        arguments: Of Python, as ``-m isograd train``.
        cwd: Working folder; None: ours.
        before: A command that runs another one.
        environment: Beyond ours; None takes a variable away. A ``PYTHONPATH`` comes before the package's.
    """
    given = (environment.pop("PYTHONPATH", None), str(Path(isograd.__path__[0]).parent), os.environ.get("PYTHONPATH"))
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path for path in given if path)}
    return subprocess.run(
        [*before, sys.executable, *arguments],
        cwd=cwd,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=HUNG_S,
    )


def together(commands: Mapping[str, Callable[[], Done]], num_at_once: int | None = None) -> dict[str, Done]:
    """Runs commands side by side; returns what each ended with. ``num_at_once`` None: all of them."""
    with ThreadPoolExecutor(num_at_once or len(commands)) as pool:
        running = {name: pool.submit(command) for name, command in commands.items()}
        return {name: command.result() for name, command in running.items()}
