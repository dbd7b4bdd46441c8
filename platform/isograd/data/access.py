"""What a user may not read: said as such, and neither taken for damaged nor passed over."""

import errno
import os
from pathlib import Path

from isograd.errors import DataError
from isograd.system.trouble import closed_place


def not_allowed(path: str | Path, error: PermissionError) -> DataError:
    """Returns the error for a file or folder that this user may not read.

    Args:
        path: Of what was to be read, where the error does not say.
        error: Of the system.
    """
    path = Path(error.filename or path).absolute()
    return DataError(
        f"{closed_place(path) or path} cannot be read ({os.strerror(errno.EACCES)})",
        "To leave out what it holds would change the data set unseen",
        "Let this user read it (chmod), or use a copy elsewhere.",
    )
