"""Stages on different nodes of a cluster that is there already: two nodes with a CPU each, on this machine.

In a process of its own, because one process can only be connected to one cluster.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import HUNG_S

pytestmark = pytest.mark.cluster

NODES = """
import json, sys, tempfile
from ray.cluster_utils import Cluster
from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.executors.pipelined import make_pipeline
from isograd.executors.executor import make_executor
from isograd.engine.program import Program
from isograd.data.synthetic import tiny_source
import ray, torch

head = {"num_cpus": 1, "object_store_memory": 2**28}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1, object_store_memory=2**28)
try:
    options = ["data=parquet", "model=resnet20", "model.width=4"]
    blueprint = Blueprint(load([*options, "executor.num_stages=2", f"cluster.address={cluster.address}"]))
    program = Program(tiny_source(6, 8, (3, 32, 32)), num_epochs=1, evaluates=False)
    with make_pipeline(blueprint) as pipeline:
        for _ in pipeline.fit(program):
            pass
        state = pipeline.state()
        groups = ray.util.placement_group_table().values()
        actors = [node for group in groups for node in group["bundles_to_node_id"].values()]
    with make_executor(Blueprint(load([*options, "executor=sequential"]))) as executor:
        for _ in executor.fit(program):
            pass
        expected = executor.state()
    equal = all(torch.equal(state[name], expected[name]) for name in expected)
    print(json.dumps({"nodes": len(set(actors)), "equal": equal, "tensors": len(expected)}))
finally:
    cluster.shutdown()
"""


def test_stages_on_two_nodes_equal_one_process(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": ""}
    done = subprocess.run(
        [sys.executable, "-c", NODES], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HUNG_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["nodes"] == 2 and found["equal"] and found["tensors"] > 100
