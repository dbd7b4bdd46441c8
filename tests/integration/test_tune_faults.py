"""A sweep that is interrupted, then its driver killed, and then a node lost: `isograd resume` finishes it each time.

Nothing is left behind. On a cluster of two nodes that outlives the driver, as in a job; in a process of its own,
because one process can only be connected to one cluster.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(320)]

SCRIPT = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster
import ray

folder = Path(sys.argv[1])
nodes = {"num_cpus": 1, "object_store_memory": 2**28}
cluster = Cluster(initialize_head=True, head_node_args=nodes)
second = cluster.add_node(**nodes)
ISOGRAD = [sys.executable, "-m", "isograd.cli"]
options = ["model.width=4", "train.epochs=8", "executor.device=cpu", "tune.scheduler=none", "tune.num_trials=6"]
where = [f"tune.folder={folder}", "tune.name=mine", f"cluster.address={cluster.address}"]

def started(command, path):
    with path.open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

def wait_for(condition, timeout_s=100):
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return bool(condition())

def ended(log):
    return [line for line in log.read_text().splitlines() if "complete  " in line]

found = {}
try:
    resume = [*ISOGRAD, "resume", str(folder / "mine")]
    first, second_try, again = (folder / f"{name}.txt" for name in ("first", "second", "again"))
    driver = started([*ISOGRAD, "tune", "dgl", *options, *where], first)
    found["some ended"] = wait_for(lambda: ended(first))
    driver.send_signal(signal.SIGINT)
    found["interrupted"], found["said first"] = driver.wait(timeout=60), first.read_text()
    driver = started(resume, second_try)
    found["more ended"] = wait_for(lambda: ended(second_try))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    found["ended before"] = len(ended(first)) + len(ended(second_try))
    driver = started(resume, again)
    wait_for(lambda: "trials left" in again.read_text() and ended(again))
    cluster.remove_node(second, allow_graceful=False)
    found["status"] = driver.wait(timeout=120)
    found["said"] = again.read_text()
    ray.init(address=cluster.address, log_to_driver=False)
    groups = lambda: [group["state"] for group in ray.util.placement_group_table().values()]
    found["released"] = wait_for(lambda: all(state == "REMOVED" for state in groups()), 10)
    ray.shutdown()
    print("found", json.dumps(found))
finally:
    cluster.shutdown()
"""


def test_an_interrupt_a_killed_driver_and_a_lost_node_lose_no_trial_and_count_none_twice(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": ""}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.rpartition("found ")[2])
    assert found["some ended"] and found["more ended"] and found["status"] == 0 and found["released"], found
    assert (
        found["interrupted"] == 130 and f"`isograd resume {tmp_path / 'mine'}` goes on with it" in found["said first"]
    )
    from isograd.tune.request import kept
    from isograd.tune.study import open_study, outcome_of

    study = open_study(kept(tmp_path / "mine"))
    outcomes = [outcome_of(trial) for trial in study.trials]
    assert [outcome and outcome.kind for outcome in outcomes] == ["complete"] * 6, found["said"]
    assert len({trial.user_attrs["assigned"]["fingerprint"] for trial in study.trials}) == 6
    ended_again = sum("complete  " in line for line in found["said"].splitlines())
    assert found["ended before"] + ended_again == 6, "a trial was counted twice, or lost"
