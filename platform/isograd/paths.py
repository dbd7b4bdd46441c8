"""Paths as users write them: a leading ``~`` is their home, whether the shell saw it or not.

What is relative begins in the working folder, which has to be there.
"""

import os
from pathlib import Path

from isograd.errors import ConfigError


def user_path(text: str | Path) -> Path:
    """Returns the path that was written. ``~name`` of a user who does not exist stays as it is, a folder's name.

    Raises:
        ConfigError: It lies in the home of a user who has none.
    """
    path = Path(os.path.expanduser(text))
    if path.parts[:1] == ("~",):
        raise ConfigError(
            f"{text} lies in a home that is not known",
            "This user has none, and HOME is not set",
            "Use a path that does not begin with ~, or set HOME.",
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
