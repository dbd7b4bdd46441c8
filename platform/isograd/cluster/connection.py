"""The Ray cluster of a run: one that is there already, or a private one on the loopback interface."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from isograd.cluster.address import AUTO, check_address
from isograd.cluster.config import ClusterConfig
from isograd.cluster.notices import without_notices
from isograd.cluster.private import check_folder, own_token
from isograd.errors import MachineError, PlacementError
from isograd.system.trouble import trouble_of

_MIN_STORE_BYTES = 256 * 2**20
_LEAST_CPUS = 2  # logical: the default pipeline has two stages, and shall start on one core as well
_LOOPBACK = "127.0.0.1"
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in it Ray hands a submitted job, its driver, what it was submitted with
_LOG = logging.getLogger(__name__)


@contextmanager
def connected(config: ClusterConfig, *, queued_bytes: int = 0, extra_cpus: int = 0) -> Iterator[None]:
    """Runs a block with Ray connected.

    Uses the connection that the process has, or the cluster at ``config.address``, or in a job the one that it was
    submitted to; else it starts a private one, which ends with the block, listens on the loopback interface only, and
    has no dashboard.

    Args:
        config: Which cluster.
        queued_bytes: What the queues between stages hold at most; sizes a private cluster's object store. A store
            that is no larger than needed stays in memory that has been touched before, which is faster.
        extra_cpus: Logical CPUs of a private cluster beyond the machine's, for data readers beside the stages.

    Raises:
        PlacementError: There is no cluster at the address.
        MachineError: A private one cannot be started on this machine as it is.
    """
    if ray.is_initialized():
        with without_notices():
            yield
        return
    # What stages raise is said by isograd; Ray would print it again for answers that nobody waits for any more.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    with ExitStack() as stack:
        stack.enter_context(without_notices())
        with _keeping_termination_handler():
            address = config.address or (AUTO if _JOB in os.environ else None)
            if address is None:
                stack.enter_context(own_token())
                stack.callback(ray.shutdown)
                _start(config, queued_bytes, extra_cpus)
            else:
                stack.callback(ray.shutdown)
                _attach(address)
        yield


@contextmanager
def _keeping_termination_handler() -> Iterator[None]:
    """Gives SIGTERM back to whoever handled it: Ray takes it over when it starts, and would end without a word."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _start(config: ClusterConfig, queued_bytes: int, extra_cpus: int) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default; but the stages are the work, not a guest
    check_folder()
    num_cpus = config.num_cpus or max(len(os.sched_getaffinity(0)), _LEAST_CPUS) + extra_cpus
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=config.object_store_bytes or max(_MIN_STORE_BYTES, 2 * queued_bytes),
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=False,
        )
    except Exception as error:  # of many kinds, by what the machine lacks
        found = trouble_of(error)
        if isinstance(error, TypeError | AssertionError) and found is None:
            raise
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MachineError(
            f"a private Ray cluster does not start ({said if found is None else found.what})",
            "The stages run as processes of Ray's",
            "Look at the room and the rights of TMPDIR and of /dev/shm, and at `ulimit -a`; or use "
            "executor=sequential, which needs no Ray.",
        ) from error
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {_LOOPBACK}:
        _LOG.warning(
            "this run's private Ray cluster listens on %s, not only on the loopback interface, because Ray had been "
            "imported before; set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 to change that",
            ", ".join(sorted(addresses)),
        )


def _attach(address: str) -> None:
    check_address(address)
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=False,
            runtime_env=_runtime_env(),
        )
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise PlacementError(
            f"cluster.address={address} cannot be used ({error})",
            "The stages run on that cluster",
            "Start one with `ray start --head`, or leave cluster.address out for a private one.",
        ) from error


def _runtime_env() -> dict[str, Any]:
    """Returns what workers get to import this platform by; nothing in a job that brings modules of its own.

    Ray refuses two lists of them, a job's and its driver's. Where isograd is not in the job's, the workers have it as
    the driver does: from the job's working directory, or installed.
    """
    job = json.loads(os.environ.get(_JOB, "{}"))
    if "py_modules" in job.get("runtime_env", {}):
        return {}
    return {"py_modules": [str(_package())]}


def _package() -> Path:
    """The package that workers on other nodes may lack: this platform, with the methods."""
    import isograd

    return Path(isograd.__path__[0]).resolve()
