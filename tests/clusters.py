"""Real Ray clusters, each in processes of its own on the loopback interface, which end with the block."""

import json
import os
import re
import site
import socket
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.keeper import descendants
from tests.processes import HUNG_S

ROOT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
_STORE_BYTES = 128 * 2**20
_LISTENS = "0A"  # the state's number in /proc/net/tcp

# What would let a command find another cluster, token or isograd than the test means.
_OF_OTHERS = (
    *("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_TMPDIR"),
    *("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "PYTHONPATH"),
)


@dataclass(frozen=True)
class RunningCluster:
    """Attributes:
    address: Where drivers connect, ``host:port``.
    api: Where jobs are submitted, a URL.
    environment: Of commands that use the cluster.
    keeper: Process id of the ancestor of all its processes.
    python: Which its processes run.
    """

    address: str
    api: str
    environment: Mapping[str, str]
    keeper: int
    python: str = sys.executable

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs a command that finds this cluster."""
        return subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=HUNG_S)

    def job(self, verb: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs ``ray job VERB``; ``environment`` overrides the cluster's."""
        overrides = (f"{name}={value}" for name, value in environment.items())
        return self.run("env", *overrides, *_ray(self.python), "job", verb, *arguments, cwd=cwd)

    def processes(self) -> list[int]:
        """Returns the ids of all processes of the cluster and of its jobs."""
        return descendants(self.keeper)

    def listening(self) -> dict[str, list[int]]:
        """Returns the addresses on which its processes listen now, each with the ports."""
        found: dict[str, list[int]] = {}
        inodes = {inode for process_id in self.processes() for inode in _sockets(process_id)}
        for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and fields[9] in inodes:
                    host, _, port = fields[1].partition(":")
                    found.setdefault(_readable(family, host), []).append(int(port, 16))
        return found


@contextmanager
def head(
    folder: Path, *, token: bool = False, python: str = sys.executable, **environment: str
) -> Iterator[RunningCluster]:
    """Runs a head for jobs.

    Args:
        folder: Where ``ray start`` is called.
        python: Which runs Ray, its workers and the jobs.
        token: Whether it asks for a token; it then lies in the home directory of ``RunningCluster.environment``.
        environment: Of the cluster's processes, beyond what keeps them on the loopback interface.
    """
    with _temporary() as own:
        own_environment = _environment(own, python, RAY_AUTH_MODE="token" if token else "disabled", **environment)
        if token:
            command = [*_ray(python), "get-auth-token", "--generate"]
            subprocess.run(command, env=own_environment, check=True, capture_output=True)
        with _started(own, folder, own_environment, "--num-cpus=2", python=python) as cluster:
            yield cluster


@contextmanager
def autoscaling(
    node_types: Mapping[str, Mapping[str, Any]], *, idle_timeout_s: float = 3.0, head_cpus: int = 0, **environment: str
) -> Iterator[RunningCluster]:
    """Runs a head that asks Ray's autoscaler for nodes, which it starts as further processes on this machine.

    Args:
        node_types: By name, what ``available_node_types`` of a cluster's YAML holds of ``resources``, ``labels``,
            ``min_workers`` and ``max_workers``; resources are pretended, as in ``ray start --num-gpus``.
        idle_timeout_s: After which a node without work goes.
        head_cpus: Of the head, beside the node types.
        environment: Of the cluster's processes.
    """
    with _temporary() as own:
        port = _free_port()
        config = own / "autoscaling.json"
        config.write_text(json.dumps(_autoscaling(node_types, f"{LOOPBACK}:{port}", idle_timeout_s, head_cpus)))
        own_environment = _environment(
            own,
            RAY_AUTH_MODE="disabled",
            RAY_FAKE_CLUSTER="1",
            RAY_enable_autoscaler_v2="0",  # the newer one needs files for fake nodes that Ray's wheel lacks
            AUTOSCALER_UPDATE_INTERVAL_S="1",
            **environment,
        )
        with _started(
            own, own, own_environment, f"--num-cpus={head_cpus}", f"--autoscaling-config={config}", port=port
        ) as cluster:
            yield cluster


def bare_python(folder: Path) -> str:
    """Returns a Python that has the dependencies, but not isograd where the suite's has it installed as editable.

    The packages of this process's Python become a line in a ``.pth`` file; such files among them, by which editable
    installs work, are not read again then.
    """
    venv.create(folder)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return str(folder / "bin" / "python")


@contextmanager
def _started(
    own: Path, folder: Path, environment: Mapping[str, str], *options: str, port: int = 0, python: str = sys.executable
) -> Iterator[RunningCluster]:
    command = [
        *(*_ray(python), "start", "--head", f"--port={port}", "--num-gpus=0", *options),
        *("--dashboard-port=0", "--dashboard-agent-listen-port=0", f"--ray-client-server-port={_free_port()}"),
        *("--min-worker-port=0", "--max-worker-port=0"),
        *(f"--temp-dir={own / 'ray'}", f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"),
    ]
    keeper = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("keeper.py")), *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with keeper:
        assert keeper.stdin is not None and keeper.stdout is not None
        try:
            said = []
            for line in keeper.stdout:
                said.append(line)
                if line.startswith("started "):
                    break
            assert said and said[-1] == "started 0\n", "".join(said)
            api = re.search(r"RAY_API_SERVER_ADDRESS='(http://[\d.:]+)'", "".join(said))
            assert api is not None, "".join(said)
            address = (own / "ray" / "ray_current_cluster").read_text()
            of_users = {**environment, "RAY_ADDRESS": address, "RAY_API_SERVER_ADDRESS": api[1]}
            yield RunningCluster(address, api[1], of_users, keeper.pid, python)
        finally:
            keeper.stdin.close()
            keeper.wait()


@contextmanager
def _temporary() -> Iterator[Path]:
    # Short: Ray's sockets lie in it, and the kernel allows their names 107 characters.
    with tempfile.TemporaryDirectory(prefix="isograd-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _environment(own: Path, python: str = sys.executable, **environment: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_OTHERS}
    return {
        **inherited,
        "HOME": str(own),  # Ray's token lies there
        "PATH": f"{Path(python).parent}:{os.environ['PATH']}",  # a job's `python`
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",  # or whatever else runs on the machine comes before these tests
        "NO_COLOR": "1",
        **environment,
    }


def _autoscaling(
    node_types: Mapping[str, Mapping[str, Any]], address: str, idle_timeout_s: float, head_cpus: int
) -> dict[str, Any]:
    """Returns Ray's configuration of its fake nodes, complete: their defaults are not in Ray's wheel."""
    head_type = "ray.head.default"  # the name that the fake provider knows
    types = {
        name: {"min_workers": 0, "max_workers": 1, "labels": {}, "node_config": {}, **node_type}
        for name, node_type in node_types.items()
    }
    types[head_type] = {"min_workers": 0, "max_workers": 0, "resources": {"CPU": head_cpus}, "node_config": {}}
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "fake",
        "max_workers": sum(node_type["max_workers"] for node_type in types.values()),
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": idle_timeout_s / 60,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
        },
        "available_node_types": types,
        "head_node_type": head_type,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in lists},
    }


def _ray(python: str) -> tuple[str, ...]:
    return (python, "-m", "ray.scripts.scripts")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def _sockets(process_id: int) -> Iterator[str]:
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for entry in Path(f"/proc/{process_id}/fd").iterdir():
            with suppress(FileNotFoundError):  # just closed
                target = os.readlink(entry)
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]


def _readable(family: socket.AddressFamily, hexadecimal: str) -> str:
    """Returns an address of /proc/net/tcp: words of four bytes each in the machine's order."""
    words = (hexadecimal[start : start + 8] for start in range(0, len(hexadecimal), 8))
    raw = b"".join(bytes.fromhex(word)[:: -1 if sys.byteorder == "little" else 1] for word in words)
    return socket.inet_ntop(family, raw).removeprefix("::ffff:")
