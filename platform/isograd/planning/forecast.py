"""What a run would do, by simulating its schedule with measured costs: modelled figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from isograd.engine.blueprint import Blueprint
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.local.action import Action, Work
from isograd.local.module import LocalModule, Silent
from isograd.planning.profile import ModuleProfile, Profile, key
from isograd.schedules.local import Coupling, local_learning
from isograd.schedules.microbatch import MICROBATCH_SCHEDULES, Grid, microbatched
from isograd.schedules.schedule import Schedule
from isograd.schedules.simulation import Contention, Link, simulate
from isograd.schedules.timeline import Timeline

NUM_BATCHES = 24  # simulated; the second half of them is steady
MICROBATCHES = (4, 8, 16)


@dataclass(frozen=True)
class Forecast:
    """A schedule under given costs.

    Attributes:
        schedule: What was simulated.
        timeline: What came out.
        batch_size: Images a batch.
        stage_bytes: For each device: weights, gradients, optimizer state, activations, queues.
    """

    schedule: Schedule
    timeline: Timeline
    batch_size: int
    stage_bytes: tuple[int, ...]

    @cached_property
    def period_s(self) -> float:
        """Seconds from batch to batch."""
        return self.timeline.period_s

    @property
    def sent_bytes(self) -> list[int]:
        """For each device, the bytes that it sends to others, a batch."""
        device_of = {action: device for device, row in enumerate(self.schedule.devices) for action in row}
        found = [0] * len(self.schedule.devices)
        for action, needs in self.schedule.needs.items():
            for need in needs:
                if need.action.step == 0 and device_of[need.action] != device_of[action]:
                    found[device_of[need.action]] += need.num_bytes
        return found

    @property
    def samples_per_s(self) -> float:
        """Training samples a second."""
        return self.batch_size / self.period_s


@dataclass(frozen=True)
class Machine:
    """Where a forecast is for.

    Attributes:
        link: Between stages.
        contention: Among them, where they share a host.
        speeds: Of the stages' devices, relative to the one that was profiled; empty: all 1.
    """

    link: Link = field(default_factory=Link)
    contention: Contention = field(default_factory=Contention)
    speeds: tuple[float, ...] = ()

    def speed(self, stage: int) -> float:
        """Returns the speed of a stage's device."""
        return self.speeds[stage] if self.speeds else 1.0


@dataclass(frozen=True)
class Forecaster:
    """Forecasts schedules of one partition.

    Attributes:
        profile: What its modules cost.
        couplings: What couples them.
        machine: Where they run.
        queue_depth: Messages that may be under way between two stages.
    """

    profile: Profile
    couplings: tuple[Coupling, ...]
    machine: Machine
    queue_depth: int

    @classmethod
    def of(cls, blueprint: Blueprint, profile: Profile, machine: Machine) -> "Forecaster":
        """Returns the forecaster of a blueprint whose modules have been profiled."""
        found = couplings(blueprint.check(), [module.output_bytes for module in profile.modules])
        depth = PipelinedConfig.of(blueprint.config.executor).queue_depth
        return cls(profile, tuple(found), machine, depth)

    def sequential(self) -> Forecast:
        """All modules on one device."""
        alone = [range(len(self.couplings))]
        schedule = local_learning(self.couplings, alone, NUM_BATCHES, self.queue_depth, "sequential")
        return self._forecast(schedule, self.profile.duration_s, self._local_bytes(alone), Machine())

    def pipelined(self, stages: Sequence[range]) -> Forecast:
        """PPLL: the modules spread over stages that all compute at once."""
        schedule = local_learning(self.couplings, stages, NUM_BATCHES, self.queue_depth)
        stage_of = [stage for stage, modules in enumerate(stages) for _ in modules]

        def duration_s(action: Action) -> float:
            return self.profile.duration_s(action) / self.machine.speed(stage_of[action.module])

        return self._forecast(schedule, duration_s, self._local_bytes(stages), self.machine)

    def microbatched(self, stages: Sequence[range], name: str, num_microbatches: int, chunks: int = 1) -> Forecast:
        """An end-to-end pipeline of the same split without auxiliary networks.

        A microbatch is taken to cost its share of the batch, and a piece its share of the stage.
        """
        largest = max((self.profile.modules[modules[-1]].output_bytes for modules in stages[:-1]), default=0)
        grid = Grid(len(stages), num_microbatches, chunks, largest // num_microbatches)
        schedule = microbatched(name, grid, NUM_BATCHES // 4)
        totals = [_unit_seconds([self.profile.modules[module] for module in modules]) for modules in stages]
        parts = num_microbatches * chunks

        def duration_s(action: Action) -> float:
            if action.work is Work.INPUT:
                return self.profile.input_s
            stage = action.module % len(stages)
            seconds = totals[stage][action.work] / (chunks if action.work is Work.UPDATE else parts)
            return seconds / self.machine.speed(stage)

        return self._forecast(
            schedule, duration_s, self._end_to_end_bytes(stages, name, num_microbatches), self.machine
        )

    def traditional(self, stages: Sequence[range]) -> list[Forecast]:
        """All microbatch schedules that these stages allow."""
        return [
            self.microbatched(stages, name, num_microbatches, 2 if name == "interleaved" else 1)
            for name in MICROBATCH_SCHEDULES
            for num_microbatches in MICROBATCHES
            if num_microbatches <= self.profile.batch_size
            and not (name == "interleaved" and num_microbatches % len(stages))
        ]

    def _forecast(
        self, schedule: Schedule, duration_s: Callable[[Action], float], stage_bytes: Sequence[int], machine: Machine
    ) -> Forecast:
        timeline = simulate(schedule, duration_s, machine.link, machine.contention)
        return Forecast(schedule, timeline, self.profile.batch_size, tuple(stage_bytes))

    def _local_bytes(self, stages: Sequence[range]) -> list[int]:
        """State of all modules, the largest module's graph (of a window the sum), and what waits in the queue."""
        found = []
        for modules in stages:
            profiles = [self.profile.modules[module] for module in modules]
            graphs = [profile.activation_bytes for profile in profiles]
            alive = sum(graphs) if any(self.couplings[module].window.passes for module in modules) else max(graphs)
            before = self.profile.modules[modules[0] - 1].output_bytes if modules[0] else 0
            found.append(sum(profile.state_bytes for profile in profiles) + alive + (self.queue_depth + 2) * before)
        return found

    def _end_to_end_bytes(self, stages: Sequence[range], name: str, num_microbatches: int) -> list[int]:
        """State of all units and the graphs of all microbatches that are under way at once."""
        found = []
        for stage, modules in enumerate(stages):
            profiles = [self.profile.modules[module] for module in modules]
            alive = num_microbatches if name == "gpipe" else min(num_microbatches, len(stages) - stage)
            graphs = sum(profile.activation_bytes for profile in profiles)
            found.append(sum(profile.state_bytes for profile in profiles) + graphs * alive // num_microbatches)
        return found


def couplings(modules: Sequence[LocalModule], output_bytes: Sequence[int]) -> list[Coupling]:
    """Reads off all K local modules what matters of them."""
    owner = {name: module.index for module in modules for name in module.unit_names}
    return [
        Coupling(
            module.window,
            not isinstance(module.objective, Silent),
            not isinstance(module.cascade, Silent),
            tuple((owner[ema.source], ema.lag) for ema in module.followers),
            num_bytes,
        )
        for module, num_bytes in zip(modules, output_bytes, strict=True)
    ]


def _unit_seconds(modules: Sequence[ModuleProfile]) -> dict[Work, float]:
    """What the modules' units alone cost, by kind of action: one forward and one backward pass, and the update."""
    forward = sum(module.seconds[key(Work.FORWARD, 0)] for module in modules)
    backward = sum(_one_sweep_s(module) for module in modules)
    return {
        Work.FORWARD: forward,
        Work.BACKWARD: backward,
        Work.INPUT_GRADIENT: backward / 2,
        Work.WEIGHT_GRADIENT: backward / 2,
        Work.UPDATE: sum(module.seconds[key(Work.UPDATE, 0)] for module in modules),
    }


def _one_sweep_s(module: ModuleProfile) -> float:
    """The module's cheapest backward pass: those for several losses cost about the same."""
    sweeps = [seconds for name, seconds in module.seconds.items() if "backward" in name]
    return min(sweeps, default=0.0)
