"""Passwords in addresses, as of a database: needed to connect, and shown to nobody."""

import re

_IN_ADDRESS = re.compile(r"(://[^:/@]*):.*@", re.DOTALL)  # to the last @: one that is in the password hides with it
_IN_QUERY = re.compile(r"([?&](?:password|passwd|pwd)=)[^&]*", re.IGNORECASE)


def hide_password(argument: str) -> str:
    """Returns an address, or an argument with one in it, to be shown; whether or not the address can be parsed.

    Args:
        argument: As ``postgresql://me:secret@host/name``, or ``tune.storage=`` with that.
    """
    return _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub(r"\1:***@", argument))


def hide_passwords(text: str) -> str:
    """Returns a text of several words, each as :func:`hide_password` shows it."""
    return re.sub(r"\S+", lambda word: hide_password(word[0]), text)
