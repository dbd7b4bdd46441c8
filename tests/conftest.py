"""One Ray session for the whole suite: starting one costs seconds."""

import os
import signal
import tempfile
from collections.abc import Iterator

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listen on the loopback interface only
os.environ.setdefault("RAY_worker_niceness", "0")  # or whatever else runs on the machine comes before these tests
os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a script runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or what these tests start could not be interrupted

# Measurements of other sessions would hide that this one measures.
_CACHE = tempfile.TemporaryDirectory(prefix="isograd-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

import pytest  # noqa: E402
import torch  # noqa: E402

from isograd.executors.hosts import Hosts  # noqa: E402

torch.set_num_threads(1)

NUM_CPUS = 8  # logical: no more stages than these at once


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    import ray

    with tempfile.TemporaryDirectory(prefix="isograd-ray-") as folder:
        ray.init(
            address="local",
            num_cpus=NUM_CPUS,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=512 * 2**20,
            log_to_driver=False,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()


_HOSTS = Hosts(NUM_CPUS)


@pytest.fixture(scope="session")
def hosts(ray_session: None) -> Iterator[Hosts]:
    with _HOSTS as hosts:
        yield hosts


@pytest.fixture
def actors(hosts: Hosts) -> Hosts:
    """Those that tests share: starting one costs seconds."""
    return hosts


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves the cluster to tests that start actors of their own: before any of their fixtures, which may be those of
    a whole module and would wait for it forever.
    """
    names = getattr(item, "fixturenames", ())
    if "ray_session" in names and "hosts" not in names:
        _HOSTS.release()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps modules together whose tests share actors, at the end."""
    sharing = {item.path for item in items if "actors" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in sharing)
