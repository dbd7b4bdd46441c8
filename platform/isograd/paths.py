"""Paths as users write them: a leading ``~`` is their home, whether the shell saw it or not."""

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
