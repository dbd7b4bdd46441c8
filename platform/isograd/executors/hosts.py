"""Actors that host one pipeline after another: starting an actor takes seconds, a stage in it milliseconds."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from isograd.engine.blueprint import Blueprint
from isograd.executors.executor import Running, make_executor
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipelined import PipelinedExecutor, make_pipeline

if TYPE_CHECKING:
    from isograd.executors.pipeline.pipeline import Pipeline

_Shape = tuple[object, ...]


class Hosts:
    """Opens executors as :func:`~isograd.executors.executor.make_executor` does, but keeps a pipeline's actors.

    A pipeline with as many stages and the same threads, depth and channel is hosted by the actors of one before it,
    anew. A context manager: its end releases them.

    Args:
        most: Actors that there is room for; None: one pipeline's. Others are released first.
    """

    def __init__(self, most: int | None = None) -> None:
        self._pipelines: dict[_Shape, Pipeline] = {}
        self._resources = ExitStack()
        self._most, self._count = most, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @contextmanager
    def open(self, blueprint: Blueprint, held_bytes: int = 0, extra_cpus: int = 0) -> Iterator[Running]:
        """Runs a block with the blueprint's executor, at its start."""
        config = blueprint.config.executor
        if not isinstance(config, PipelinedConfig) or config.rebalance != "off":
            self.release()
            with make_executor(blueprint, held_bytes, extra_cpus) as executor:
                yield executor
            return
        try:
            yield self._hosting(blueprint, held_bytes, extra_cpus)
        except BaseException:
            self.release()  # actors in the middle of something host nothing else
            raise

    def release(self) -> None:
        """Ends all actors."""
        self._pipelines.clear()
        self._count = 0
        self._resources.close()

    def _hosting(self, blueprint: Blueprint, held_bytes: int, extra_cpus: int) -> "Pipeline":
        from isograd.cluster import placement
        from isograd.executors.pipeline.pipeline import stage_builders

        config = PipelinedConfig.within(blueprint.config)
        stages = PipelinedExecutor.layout(blueprint).stages
        num_stages = len(stages)
        shape = (num_stages, config.threads, config.queue_depth, config.channel, config.device)
        known = self._pipelines.get(shape)
        if known is not None:
            placement.check_store(held_bytes + PipelinedExecutor.queued_bytes(blueprint))
            known.rebuild(stage_builders(blueprint, stages))
            return known
        if self._count + num_stages > (self._most or 0):
            self.release()
        made = make_pipeline(blueprint, held_bytes=held_bytes, extra_cpus=extra_cpus)
        self._pipelines[shape] = self._resources.enter_context(made)
        self._count += num_stages
        return made
