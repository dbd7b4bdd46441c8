"""Whether somebody answers where a cluster should be: asked before Ray is, which would try for minutes."""

import os
import re
import socket
from typing import cast

from isograd.errors import PlacementError

AUTO, CLIENT = "auto", "ray://"
_TIMEOUT_S = 5.0


def check_address(address: str) -> None:
    """Tries the port of a cluster, and whether what listens there speaks as Ray does.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for the one that Ray finds by itself.

    Raises:
        PlacementError: It is no address, or nobody answers there.
    """
    found = _found_by_ray() if address == AUTO else address
    if found is None:
        raise _nobody(address, "no cluster was started on this machine, and RAY_ADDRESS names none")
    host, port = _split(found)
    where = "" if found == address else f"{found}: "
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            pass
    except (OSError, UnicodeError) as error:
        raise _nobody(address, f"{where}{getattr(error, 'strerror', None) or error}") from error
    if not os.environ.get("RAY_USE_TLS") and not _speaks_grpc(host, port):
        raise _nobody(address, f"{where}something listens there that is no Ray")


def _split(address: str) -> tuple[str, int]:
    match = re.fullmatch(r"\[?([^\s/\[\]]+?)\]?:(\d{1,5})/?", address.removeprefix(CLIENT))
    if match is None or not 0 < int(match.group(2)) < 2**16:
        raise PlacementError(
            f"cluster.address={address} is no address of a Ray cluster",
            "The stages run on that cluster, and a host and a port say where it is",
            "Use cluster.address=HOST:6379 as `ray start --head` printed it, or auto for one on this machine.",
        )
    return match.group(1), int(match.group(2))


def _found_by_ray() -> str | None:
    """Returns what Ray would connect to when it is left to it."""
    named = os.environ.get("RAY_ADDRESS")
    if named and named != AUTO:
        return named
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return canonicalize_bootstrap_address(AUTO)
    except (ConnectionError, OSError, ValueError):
        return None


def _speaks_grpc(host: str, port: int) -> bool:
    import grpc

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_TIMEOUT_S)
        except grpc.FutureTimeoutError:
            return False
        try:  # of any service: who speaks HTTP/2, but not gRPC, answers with a page
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            reply = cast("grpc.Call", error)
            return reply.code() != grpc.StatusCode.UNAVAILABLE and "http2 header" not in str(reply.details())
    return True


def _nobody(address: str, reason: str) -> PlacementError:
    return PlacementError(
        f"no Ray cluster answers at cluster.address={address} ({reason})",
        "The stages run on that cluster",
        "Start one with `ray start --head`, or leave cluster.address out for a private one.",
    )
