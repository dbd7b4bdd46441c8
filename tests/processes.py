"""What is left of a pipeline after its end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What a test waits for something that must come: so long that only a hang reaches it, on the busiest machine.
HUNG_S = 300.0


def is_running(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def trial_processes() -> list[int]:
    """Processes in which a trial trains now, of this process's own cluster: others may run on this machine."""
    from ray._private import worker

    node = worker._global_node
    assert node is not None, "this process is connected to a cluster of its own"
    session = node.get_session_dir_path()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = (entry / "cmdline").read_text()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                raylet = Path(f"/proc/{parent}/cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if name.startswith("ray::ResourceTrainable.train") and session in raylet:
                found.append(int(entry.name))
    return found


def have_ended(process_ids: list[int]) -> bool:
    """Whether these processes have, and no actor is left that would outlive them but Ray Data's own."""
    from ray.util import list_named_actors

    actors: list[Any] = list_named_actors(all_namespaces=True)
    left = [actor["name"] for actor in actors if not _is_of_ray_data(actor["name"])]
    return not any(map(is_running, process_ids)) and not left


def _is_of_ray_data(name: str) -> bool:
    return any(part in name.lower() for part in ("dataset", "autoscaling"))


def nothing_left(process_ids: list[int]) -> bool:
    from ray.util import placement_group_table

    groups = placement_group_table().values()
    return have_ended(process_ids) and all(group["state"] == "REMOVED" for group in groups)


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + HUNG_S
    while not (met := condition()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return met
