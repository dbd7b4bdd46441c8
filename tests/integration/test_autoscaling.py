"""Ray's autoscaler at work on the node types of cluster/aws.yaml, which Ray's fake nodes play on this machine.

A pipeline's placement group asks for all of its devices at once. Nodes of the right type come, and go when they are
idle.
"""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.clusters import LOOPBACK, ROOT, autoscaling

pytestmark = pytest.mark.cluster

NODE_TYPES = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())["available_node_types"]
PLAYED = {
    name: {key: NODE_TYPES[name][key] for key in ("resources", "labels", "max_workers")}
    for name in ("cpu_readers", "gpu_stages")
}
PACKAGES = f"{ROOT / 'platform'}:{ROOT}"  # isograd and the tests
NUM_STAGES = 6  # on nodes with 4 GPUs each

DRIVER = """
import json
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from tests.processes import HUNG_S, wait_until

def roles():
    return sorted(node["Labels"].get("isograd.io/role", "head") for node in ray.nodes() if node["Alive"])

def wait_for(expected):
    wait_until(lambda: roles() == expected)
    return roles()

@ray.remote
class Stage:
    def device(self):
        context = ray.get_runtime_context()
        return context.get_node_id(), *context.get_accelerator_ids()["GPU"]

@ray.remote(num_cpus=1)
def read():
    return True

ray.init(log_to_driver=False)
found = {"before": roles(), "read": ray.get(read.remote()), "for a reader": roles()}
group = placement_group([{"CPU": 1, "GPU": 1}] * NUM_STAGES, strategy="PACK")
found["came"] = group.wait(HUNG_S)
found["with stages"] = roles()
bundles = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index) for index in range(NUM_STAGES)]
stages = [Stage.options(num_cpus=1, num_gpus=1, scheduling_strategy=bundle).remote() for bundle in bundles]
found["devices"] = ray.get([stage.device.remote() for stage in stages])
remove_placement_group(group)
found["after"] = wait_for(["head"])
print(json.dumps(found))
"""


def test_nodes_come_for_readers_and_for_pipelines_and_go_when_idle(tmp_path: Path) -> None:
    code = DRIVER.replace("NUM_STAGES", str(NUM_STAGES))
    with autoscaling(PLAYED, PYTHONPATH=PACKAGES) as cluster:
        done = cluster.run(sys.executable, "-c", code, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert set(cluster.listening()) == {LOOPBACK}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["before"] == found["after"] == ["head"]
    assert found["for a reader"] == ["head", "reader"]
    assert found["came"] and found["with stages"].count("stage") >= 2
    devices = {tuple(device) for device in found["devices"]}
    assert len(devices) == NUM_STAGES and len({node for node, _ in devices}) == 2


SWEEP = """
import json, sys, threading, time
import ray
from isograd.system.console import wide_console
from isograd.tune.request import parse
from isograd.tune.results import outcome_of
from isograd.tune.sweep import begin

options = sys.argv[2:]
request = parse("dgl", [f"tune.folder={sys.argv[1]}", "tune.name=grown", *options])
came = set()

def watch():
    while True:
        if ray.is_initialized():
            came.update(node["NodeID"] for node in ray.nodes() if "stage" in node["Labels"].values())
        time.sleep(0.2)

threading.Thread(target=watch, daemon=True).start()
study = begin(request, wide_console()).study
print("found", json.dumps({"kinds": [outcome_of(trial).kind for trial in study.trials], "came": len(came)}))
"""


def test_a_sweep_of_pipelines_asks_for_nodes_that_go_when_it_has_ended(tmp_path: Path) -> None:
    played = {"stages": {"resources": {"CPU": 2}, "labels": {"isograd.io/role": "stage"}, "max_workers": 2}}
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"available_node_types": played, "max_workers": 2}))
    options = ("tune.num_trials=4", "tune.scheduler=none", "train.epochs=2", "model.width=4", "executor=pipelined")
    where = ("executor.num_stages=2", "executor.device=cpu", "cluster.address=auto", f"cluster.autoscaler={file}")
    with autoscaling(played, PYTHONPATH=PACKAGES) as cluster:
        command = (sys.executable, "-c", SWEEP, str(tmp_path), *options, *where)
        done = cluster.run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout.rpartition("found ")[2])
        # Not exactly 2: a node that is idle because a trial is late goes, and another comes for that trial.
        assert found["kinds"] == ["complete"] * 4 and found["came"] >= 2, done.stdout
        gone = cluster.run(sys.executable, "-c", GONE, cwd=tmp_path)
        assert gone.returncode == 0, gone.stderr


GONE = """
import sys
import ray
from tests.processes import wait_until
ray.init(log_to_driver=False)
alone = wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == 1)
groups = ray.util.placement_group_table().values()
sys.exit(not alone or any(group["state"] != "REMOVED" for group in groups))
"""
