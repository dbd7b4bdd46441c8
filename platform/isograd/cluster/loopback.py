"""Keeps a private Ray cluster off the network. Must run before Ray is imported, so this file does not import it."""

import os
import sys

# Ray's own switch for a node address of 127.0.0.1, on which its services then listen. It is named after the systems
# where it is the default; Ray reads it once, when it is imported.
_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def prefer_loopback() -> None:
    """Lets Ray's services listen on 127.0.0.1 only. No effect once Ray has been imported, or where the user chose.

    A driver needs it as well for a running cluster on 127.0.0.1, whose address Ray would otherwise replace by that of
    this machine in its network. Clusters at other addresses are reached as before.
    """
    if "ray" not in sys.modules:
        os.environ.setdefault(_SWITCH, "0")
