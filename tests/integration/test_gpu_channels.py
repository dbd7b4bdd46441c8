"""Stages on GPUs train as one process does, by every channel. Each case has a Ray cluster of its own, with the GPUs."""

import os
import subprocess
import sys

import pytest
import torch

from tests.processes import HUNG_S

CASES = {
    "store": ("store", 0.5, 1),
    "direct, one GPU": ("direct", 0.5, 1),
    "auto, one GPU": ("auto", 0.5, 1),
    "collective": ("collective", 1, 2),
    "auto, a GPU each": ("auto", 1, 2),
    "direct, a GPU each": ("direct", 1, 2),  # needs NIXL
}

PROGRAM = """
import sys
import torch
from isograd.errors import ChannelError
from tests.runs import trained

options = ("method=hpff", "model=resnet20", "partition.num_modules=3", "precision.dtype=float64")
channel, share = sys.argv[1:]
sequential = trained("executor=sequential", "executor.device=cuda", *options, max_steps=12)
stages = ("executor.num_stages=2", f"executor.channel={channel}", f"executor.gpus_per_stage={share}")
try:
    pipelined = trained(*stages, "executor.device=cuda", *options, max_steps=12)
except ChannelError as error:
    sys.exit(f"refused: {error}")
for name, tensor in sequential.items():
    torch.testing.assert_close(pipelined[name], tensor, rtol=1e-6, atol=1e-8, msg=name)
"""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("case", CASES)
def test_stages_on_gpus_equal_one_process_by_every_channel(case: str) -> None:
    channel, share, num_gpus = CASES[case]
    if torch.cuda.device_count() < num_gpus:
        pytest.skip(f"there are not {num_gpus} GPUs")
    command = [sys.executable, "-c", PROGRAM, channel, str(share)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HUNG_S, check=False)
    if "refused: " in done.stderr:
        pytest.skip(done.stderr.partition("refused: ")[2].strip())
    assert done.returncode == 0, done.stderr[-2000:]
