"""What local modules cost, measured by training them: seconds of each action, bytes of memory and of activations.

Measuring takes a few steps on random images in this process. Results are kept in a cache, since the same model, batch
and device cost the same tomorrow, and since a partition that follows from them should not change from run to run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from isograd.data.field import Field
from isograd.data.synthetic import source
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import to_dict
from isograd.engine.program import Program
from isograd.events.events import StageReport, StageTimeline
from isograd.executors.sequential import SequentialExecutor
from isograd.local.action import Action, Span, Work
from isograd.planning.cache import kept
from isograd.planning.cost import Cost, costs
from isograd.schedules.timeline import typical_s
from isograd.system.provenance import hardware

_WARM_UP = 2  # steps: the optimizer's state, and whatever kernels choose at first
_LEAST_STEPS, _MOST_STEPS, _ENOUGH_S = 5, 50, 3.0


@dataclass(frozen=True)
class ModuleProfile:
    """What one local module costs in a training step.

    Attributes:
        name: The unit it ends with.
        seconds: Of each action, by ``work/part``.
        output_bytes: Of the activation that a batch sends to the next module.
        activation_bytes: Kept from forward to backward.
        state_bytes: Weights, gradients, optimizer state, buffers.
        num_parameters: Auxiliary network included.
        num_auxiliary_parameters: Of that, the auxiliary network.
        flops: Of a step.
    """

    name: str
    seconds: Mapping[str, float]
    output_bytes: int
    activation_bytes: int
    state_bytes: int
    num_parameters: int
    num_auxiliary_parameters: int
    flops: float

    @property
    def step_s(self) -> float:
        """Seconds of all its actions together."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Profile:
    """What a partition's local modules cost.

    Attributes:
        modules: In order.
        input_s: To read and augment a batch.
        hardware: Where it was measured.
        batch_size: With what.
    """

    modules: tuple[ModuleProfile, ...]
    input_s: float
    hardware: str
    batch_size: int

    def duration_s(self, action: Action) -> float:
        """Returns how long an action takes, in seconds."""
        if action.work is Work.INPUT:
            return self.input_s
        return self.modules[action.module].seconds[key(action.work, action.part)]

    def to_json(self) -> dict[str, Any]:
        """Returns the profile as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Profile":
        """Returns the profile that :meth:`to_json` described."""
        modules = tuple(ModuleProfile(**module) for module in record["modules"])
        return cls(**{**record, "modules": modules})


def key(work: Work, part: int) -> str:
    """Names an action within its module."""
    return f"{work.value}/{part}"


def profile(blueprint: Blueprint, *, cache: Path | None = None) -> Profile:
    """Returns the costs of a blueprint's local modules: from the cache, or else measured and put there.

    Args:
        blueprint: Of the modules; its executor's device and threads count.
        cache: Folder; None: the usual one.
    """
    record = kept("profile", what_costs(blueprint), lambda: measured(blueprint).to_json(), cache)
    return Profile.from_json(record)


def what_costs(blueprint: Blueprint) -> dict[str, Any]:
    """Returns what the costs of a blueprint's local modules depend on, as JSON."""
    config = to_dict(blueprint.config)
    parts = {group: config[group] for group in ("model", "method", "task", "optimizer", "precision")}
    parts |= {"batch_size": blueprint.config.data.batch_size, "fields": repr(_fields(blueprint))}
    parts["augmentation"] = repr(blueprint.dataset.augmentation)
    parts |= {name: config["executor"][name] for name in ("device", "threads")}
    return parts | {"ends": blueprint.partition.ends, "named": blueprint.partition.named_num_modules}


def _fields(blueprint: Blueprint) -> list[tuple[str, Field]]:
    return [*blueprint.dataset.inputs.items(), *blueprint.dataset.targets.items()]


def measured(blueprint: Blueprint) -> Profile:
    """Trains the local modules for some steps in this process, on random images, and returns what that cost."""
    blueprint = _sequential(blueprint)
    config = blueprint.config
    with SequentialExecutor(blueprint) as executor:
        report, _ = _run(executor, blueprint, _WARM_UP)
        num_steps = int(_ENOUGH_S * report.num_steps / report.train_s)
        report, spans = _run(executor, blueprint, min(max(num_steps, _LEAST_STEPS), _MOST_STEPS))
        states = [_state_bytes(learner.optimizer, learner.module) for learner in executor.stage.learners]
    seconds = typical_s(spans)
    modules = blueprint.method.local_modules(blueprint.partition, config.seed)
    counted = costs(modules, blueprint.task)
    return Profile(
        tuple(
            _module(module.name, index, seconds, cost, state, config.data.batch_size)
            for index, (module, cost, state) in enumerate(zip(modules, counted, states, strict=True))
        ),
        seconds[Work.INPUT, 0, 0],
        f"{report.device}: {hardware()}",
        config.data.batch_size,
    )


def _run(executor: SequentialExecutor, blueprint: Blueprint, num_steps: int) -> tuple[StageReport, tuple[Span, ...]]:
    data = blueprint.config.data
    batches = source(blueprint.task.synthetic, num_steps, data.batch_size, blueprint.dataset.augmentation)
    program = Program(batches, num_epochs=1, carries_inputs=blueprint.method.exchange.inputs, evaluates=False)
    events = list(executor.fit(program))
    report = next(event for event in events if isinstance(event, StageReport))
    return report, next(event.spans for event in events if isinstance(event, StageTimeline))


def _module(
    name: str, index: int, seconds: Mapping[tuple[Work, int, int], float], cost: Cost, state_bytes: int, batch_size: int
) -> ModuleProfile:
    own = {
        key(work, part): duration_s
        for (work, module, part), duration_s in seconds.items()
        if module == index and work is not Work.INPUT and not work.is_wait
    }
    return ModuleProfile(
        name,
        own,
        cost.output_bytes * batch_size,
        int(cost.activation_bytes * batch_size),
        state_bytes,
        cost.num_parameters,
        cost.num_auxiliary_parameters,
        cost.step_flops * batch_size,
    )


def _state_bytes(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> int:
    """Weights, buffers, optimizer state, and a gradient for each weight that has one."""
    kept = [
        *module.parameters(),
        *module.buffers(),
        *(weight for weight in module.parameters() if weight.requires_grad),
    ]
    states = [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
    ]
    return sum(tensor.nbytes for tensor in [*kept, *states])


def _sequential(blueprint: Blueprint) -> Blueprint:
    config = blueprint.config
    executor = SequentialExecutor.Config.of(config.executor, timeline=_MOST_STEPS)
    return Blueprint(replace(config, executor=executor))
