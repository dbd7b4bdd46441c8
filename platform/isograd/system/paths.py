"""Paths as users write them: a leading ``~`` is their home, whether the shell saw it or not.

What is relative begins in the working folder, which has to be there.
"""

import os
from pathlib import Path

from isograd.errors import ConfigError


def user_path(text: str | Path) -> Path:
    """Returns the path that was written.

    Raises:
        ConfigError: It lies in the home of a user who has none, or of one who does not exist.
    """
    path = Path(os.path.expanduser(text))
    first = path.parts[0] if path.parts else ""
    if first == "~":
        raise ConfigError(
            f"{text} lies in a home that is not known",
            "This user has none, and HOME is not set",
            "Use a path that does not begin with ~, or set HOME.",
        )
    if first.startswith("~"):
        raise ConfigError(
            f"{text} lies in the home of {first[1:]}, a user who does not exist here",
            f"A folder would be made, or looked for, that is itself called {first}",
            f"Use a path that does not begin with ~; where the folder is called so, {Path.cwd() / path}.",
        )
    return path


def check_working_folder() -> None:
    """Raises ConfigError where the working folder is gone, without which libraries end the process (oneMKL does)."""
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(
            f"the working folder cannot be used ({error.strerror})",
            "It was removed or replaced, or may not be read, and relative paths begin there",
            "Change to a folder that exists (`cd .` where one of the same name is there again).",
        ) from error
