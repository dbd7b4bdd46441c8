"""Pipelines that carry gradients, by torch.distributed.pipelining: the baseline of pipelined local learning."""

from isograd.executors.microbatch.executor import MicrobatchExecutor as MicrobatchExecutor
