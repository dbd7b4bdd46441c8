"""A sweep that is interrupted, moved to another cluster and back; its driver is killed, and then a node lost.

`isograd resume` goes on with it each time, and nothing is left behind. On a cluster of two nodes that outlives the
driver, as in a job; in a process of its own, because one process can only be connected to one cluster.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters import ROOT
from tests.processes import HUNG_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1300)]

SCRIPT = """
import json, signal, subprocess, sys
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
from tests.processes import HUNG_S, wait_until

folder = Path(sys.argv[1])
nodes = {"num_cpus": 1, "object_store_memory": 2**28}
cluster = Cluster(initialize_head=True, head_node_args=nodes)
second = cluster.add_node(**nodes)
ISOGRAD = [sys.executable, "-m", "isograd"]
options = ["model.width=4", "train.epochs=8", "executor.device=cpu", "tune.scheduler=none", "tune.num_trials=8"]
options += ["tune.num_lost_retries=1"]  # the death of a node is one loss, whatever comes of it until Ray knows
where = [f"tune.folder={folder}", "tune.name=mine", f"cluster.address={cluster.address}"]

def started(command, path):
    with path.open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

def ended(path):
    return [line for line in path.read_text().splitlines() if "complete  " in line]

def broken_off(command, name, how):
    path = folder / f"{name}.txt"
    driver = started(command, path)
    wait_until(lambda: ended(path))
    driver.send_signal(how)
    return driver.wait(HUNG_S), path.read_text()

found = {}
try:
    resume, again = [*ISOGRAD, "resume", str(folder / "mine")], folder / "again.txt"
    found["interrupted"] = broken_off([*ISOGRAD, "tune", "dgl", *options, *where], "first", signal.SIGINT)
    found["elsewhere"] = broken_off([*resume, "cluster.address=null"], "elsewhere", signal.SIGINT)
    found["killed"] = broken_off([*resume, f"cluster.address={cluster.address}"], "back", signal.SIGKILL)
    driver = started(resume, again)
    wait_until(lambda: "trials left" in again.read_text() and ended(again))
    cluster.remove_node(second, allow_graceful=False)
    found["finished"] = driver.wait(2 * HUNG_S), again.read_text()
    ray.init(address=cluster.address, log_to_driver=False)
    groups = lambda: [group["state"] for group in ray.util.placement_group_table().values()]
    found["released"] = wait_until(lambda: all(state == "REMOVED" for state in groups()))
    ray.shutdown()
    print("found", json.dumps(found))
finally:
    cluster.shutdown()
"""


def test_no_trial_is_lost_or_counted_twice(tmp_path: Path) -> None:
    # At Ray's own niceness, 15, trials would wait for whatever else the machine does.
    environment = {**os.environ, "RAY_ADDRESS": "", "RAY_worker_niceness": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * HUNG_S,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("found ")).removeprefix("found ")
    )
    drivers = [found[name] for name in ("interrupted", "elsewhere", "killed", "finished")]
    assert [status for status, _ in drivers] == [130, 130, -9, 0] and found["released"], found
    assert all(f"`isograd resume {tmp_path / 'mine'}` goes on with it" in said for _, said in drivers[:2])
    from isograd.tune.request import read_request
    from isograd.tune.results import outcome_of
    from isograd.tune.study import open_study

    study = open_study(read_request(tmp_path / "mine"))
    outcomes = [outcome_of(trial) for trial in study.trials]
    assert [outcome and outcome.kind for outcome in outcomes] == ["complete"] * 8, drivers[-1][1]
    assert len({trial.user_attrs["assigned"]["fingerprint"] for trial in study.trials}) == 8
    ended = [sum("complete  " in line for line in said.splitlines()) for _, said in drivers]
    assert min(ended) >= 1 and sum(ended) == 8, f"a trial was counted twice, or lost: {ended}"
