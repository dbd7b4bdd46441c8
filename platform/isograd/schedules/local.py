"""The schedule of local learning, sequential or pipelined: the same actions in the same order as a stage takes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from isograd.local.action import Action, Work
from isograd.local.exchange import Window
from isograd.schedules.schedule import Need, Schedule, Writer, input_of


@dataclass(frozen=True)
class Coupling:
    """What matters of a local module for its schedule.

    Attributes:
        window: Which cascade losses train it.
        has_loss: Whether it has a loss of its own.
        has_cascade: Whether it has a cascade loss.
        follows: The later modules whose weights it averages, each with its lag in steps.
        output_bytes: Of what it sends to the next module, a batch.
    """

    window: Window = field(default_factory=Window)
    has_loss: bool = True
    has_cascade: bool = False
    follows: tuple[tuple[int, int], ...] = ()
    output_bytes: int = 0


def local_learning(
    couplings: Sequence[Coupling], stages: Sequence[range], num_batches: int, queue_depth: int, name: str = "PPLL"
) -> Schedule:
    """Returns what each stage does with ``num_batches`` batches.

    Args:
        couplings: Of all local modules.
        stages: Which of them each stage hosts; one stage with all of them is sequential local learning.
        num_batches: From step 0.
        queue_depth: Messages that may be under way between two stages.
        name: Of the schedule.
    """
    writer = Writer(len(stages))
    for index in range(len(stages)):
        for step in range(num_batches):
            _Turn(couplings, stages, index, step, queue_depth, writer).take()
    return writer.schedule(name, num_batches)


@dataclass
class _Turn:
    """One stage's work on one batch. Mirrors ``Stage._train``."""

    couplings: Sequence[Coupling]
    stages: Sequence[range]
    index: int
    step: int
    queue_depth: int
    writer: Writer
    awaited: list[Need] = field(default_factory=list)
    open_sweeps: dict[int, int] = field(default_factory=dict)

    def take(self) -> None:
        modules = self.stages[self.index]
        if self.index == 0:
            self.writer.add(0, input_of(self.step))
        self.open_sweeps = {module: len(self.couplings[module].window.passes) for module in modules}
        for module in modules:
            self._forward(module)
            self._learn(module)
        for origin in self.couplings[modules[-1]].window.passes:
            sweep = Action(Work.CASCADE_BACKWARD, modules[-1] + 1, self.step, origin)
            self.awaited.append(Need(sweep, num_bytes=self.couplings[modules[-1]].output_bytes))
            self._pass_up(modules[-1], origin)

    def _forward(self, module: int) -> None:
        modules = self.stages[self.index]
        if module == modules[0] and self.index:
            before = self.couplings[module - 1]
            self.awaited.append(Need(self._action(Work.FORWARD, module - 1), num_bytes=before.output_bytes))
        self._do(Work.FORWARD, module)
        if module == modules[-1] and self.index + 1 < len(self.stages):
            self._await(Action(Work.FORWARD, module + 1, self.step - self.queue_depth - 1))
        for source, lag in self.couplings[module].follows:
            if source not in modules:
                self._await(Action(Work.FORWARD, source, self.step - lag - 1))

    def _learn(self, module: int) -> None:
        coupling = self.couplings[module]
        if coupling.has_cascade:
            self._do(Work.CASCADE, module)
            self._do(Work.CASCADE_BACKWARD, module, module)
            if coupling.window.sends:
                self._pass_up(module - 1, module)
        if coupling.has_loss:
            self._do(Work.LOSS, module)
            self._do(Work.BACKWARD, module)
        self._update_complete(module)

    def _pass_up(self, module: int, origin: int) -> None:
        if module not in self.stages[self.index]:
            return
        self._do(Work.CASCADE_BACKWARD, module, origin)
        self.open_sweeps[module] -= 1
        if self.couplings[module].window.passes[origin]:
            self._pass_up(module - 1, origin)
        self._update_complete(module)

    def _update_complete(self, module: int) -> None:
        if not self.open_sweeps[module]:
            self._do(Work.UPDATE, module)

    def _await(self, action: Action) -> None:
        """Lets the next action wait until another stage has begun ``action``."""
        if action.step >= 0:
            self.awaited.append(Need(action, at_start=True))

    def _do(self, work: Work, module: int, part: int = 0) -> None:
        self.writer.add(self.index, self._action(work, module, part), self.awaited)
        self.awaited = []

    def _action(self, work: Work, module: int, part: int = 0) -> Action:
        return Action(work, module, self.step, part)
