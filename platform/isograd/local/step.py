"""The step: how every executor trains a local module on a batch.

It comes in parts, because in some methods modules wait for each other within a step: the next module wants an
activation as soon as it exists, the one before the gradient of a cascade loss. The module's forward pass runs once;
every loss that trains it sweeps backward through that one graph.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from isograd.data.field import Tree
from isograd.errors import ContractError
from isograd.local.action import Work
from isograd.local.learner import Learner
from isograd.local.message import Message
from isograd.local.module import Given, LocalModule, Objective, Outcome, Silent
from isograd.local.recorder import UNRECORDED, Recorder
from isograd.seeding import reseed


class Step:
    """One local module's training step: :meth:`forward`, :meth:`cascade`, :meth:`local`, :meth:`take`, :meth:`update`.

    Args:
        learner: The module and its optimizer.
        message: A batch, on the learner's device.
        recorder: Times what is done.

    Note:
        Gradients add up in this order: cascade, local, then those taken from later modules. The released code of HPFF
        and MLAAN runs a module once for each of them and adds up in the same order, so parameters agree to the bit.
    """

    def __init__(self, learner: Learner, message: Message, recorder: Recorder = UNRECORDED) -> None:
        self._recorder, self._learner, self._message = recorder, learner, message
        self._window = learner.module.window
        self._awaited = list(self._window.passes)
        self._losses: list[Tensor] = []
        self._prediction: Tree | None = None
        self._weight: int | Tensor = 0

    @property
    def module(self) -> LocalModule:
        """The local module."""
        return self._learner.module

    @property
    def is_complete(self) -> bool:
        """Whether all gradients have been taken that train this module."""
        return not self._awaited

    def forward(self) -> Tree:
        """Runs the units; returns h_k, what is alive after them, detached.

        The caller may hand it on at once: the next module sees the activation of the weights before this step's
        update, in every executor. It may read it until the step's end, hence the guard in :meth:`update`.
        """
        with self._recording(Work.FORWARD):
            return self._forward()

    def _forward(self) -> Tree:
        learner, message = self._learner, self._message
        learner.set_lr(message)
        reseed(learner.device, learner.seed, "noise", message.step, self.module.name)
        self._entering = learner.entering(message)
        if self._window.sends or any(self._window.passes.values()):
            self._entering = {name: _leaf(value) for name, value in self._entering.items()}
        self._versions = _versions(self._entering)
        with learner.computing():
            self._feature = self.module(self._entering)
        self._output = {name: value.detach() for name, value in self._feature.items()}
        self._output_versions = _versions(self._output)
        return self._output

    def cascade(self) -> Tree | None:
        """Learns from the cascade loss.

        Returns:
            Its gradient with respect to what enters the module, by name, where it reaches the module before.
        """
        if isinstance(self.module.cascade, Silent):
            return None
        with self._recording(Work.CASCADE):
            gradient = self._gradient_of(self.module.cascade)
        if gradient is None:
            return None
        is_last = self.is_complete and isinstance(self.module.objective, Silent)
        with self._recording(Work.CASCADE_BACKWARD, self.module.index):
            return self._sweep(gradient, to_input=self._window.sends, is_last=is_last)

    def local(self) -> None:
        """Learns from the module's own loss."""
        if not isinstance(self.module.objective, Silent):
            with self._recording(Work.LOSS):
                gradient = self._gradient_of(self.module.objective)
            if gradient is not None:
                with self._recording(Work.BACKWARD):
                    self._sweep(gradient, to_input=False, is_last=self.is_complete)
        self._reduce_complete()

    def take(self, origin: int, gradient: Tree) -> Tree | None:
        """Learns from the cascade loss of a later module.

        Args:
            origin: Index of that module.
            gradient: With respect to h_k, by name.

        Returns:
            The gradient with respect to what enters the module, where that loss reaches the module before.
        """
        self._awaited.remove(origin)
        with self._recording(Work.CASCADE_BACKWARD, origin):
            passed = self._sweep(gradient, to_input=self._window.passes[origin], is_last=self.is_complete)
        self._reduce_complete()
        return passed

    def update(self) -> Outcome:
        """Updates the weights; returns the sum of the module's losses, detached, and its prediction.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite; nothing was updated on the CPU (on a GPU, this is noticed
                some steps later).
            ContractError: The units or the objective changed an activation in place.
        """
        self._check_in_place()
        learner = self._learner
        learner.reducer.finish(self.module)
        loss = sum(self._losses[1:], self._losses[0]) if self._losses else None
        if loss is not None:
            learner.finite.check(loss, self.module.name, self._message.step)
        if learner.precision.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), learner.precision.clip_norm)
        learner.update_weights()
        return Outcome(loss, self._prediction, self._weight)

    def _reduce_complete(self) -> None:
        """Lets the gradients travel to other workers once no sweep is to come."""
        if self.is_complete:
            self._learner.reducer.begin(self.module)

    def _recording(self, work: Work, part: int = 0) -> AbstractContextManager[None]:
        return self._recorder.recording(work, self.module.index, self._message.step, part)

    def _gradient_of(self, objective: Objective) -> Tree | None:
        """Trains an objective's own weights; returns the gradient of its loss with respect to h_k."""
        live = {name: value.detach().requires_grad_(value.requires_grad) for name, value in self._feature.items()}
        with self._learner.computing():
            outcome = objective(live, self._given)
        if self._prediction is None and outcome.prediction is not None:
            self._prediction = {name: value.detach() for name, value in outcome.prediction.items()}
        if outcome.loss is None:
            return None
        outcome.loss.backward()
        self._losses.append(outcome.loss.detach())
        self._weight = outcome.weight
        return {name: value.grad for name, value in live.items() if value.grad is not None}

    @property
    def _given(self) -> Given:
        entering = {name: value.detach() for name, value in self._entering.items()}
        return Given(self._message.targets, self._message.inputs, entering)

    def _sweep(self, gradient: Tree, *, to_input: bool, is_last: bool) -> Tree | None:
        """Backpropagates through the units: adds to their weights' gradients; returns the input's, where asked for.

        The last sweep frees the graph as it goes. A value that only passes through the module is one that entered it,
        and so is its gradient.
        """
        leaves: list[Tensor] = [weight for weight in self.module.trunk.parameters() if weight.requires_grad]
        if to_input:
            leaves += [value for value in self._entering.values() if value.requires_grad]
        entered = {} if to_input else {id(value) for value in self._entering.values()}
        names = [
            name for name in gradient if self._feature[name].requires_grad and id(self._feature[name]) not in entered
        ]
        if not leaves or not names:
            return None
        roots = [self._feature[name] for name in names]
        torch.autograd.backward(roots, [gradient[name] for name in names], inputs=leaves, retain_graph=not is_last)
        return self._take_input_gradient() if to_input else None

    def _take_input_gradient(self) -> Tree:
        gradients: dict[str, Tensor] = {}
        for name, value in self._entering.items():
            if value.grad is not None:
                gradients[name], value.grad = value.grad, None
        return gradients

    def _check_in_place(self) -> None:
        if _versions(self._entering) != self._versions:
            raise _changed_in_place(self.module, "its input")
        if _versions(self._output) != self._output_versions:
            raise _changed_in_place(self.module, "its output")


@torch.no_grad()
def predict_step(learner: Learner, message: Message) -> Tree:
    """Runs a module's units without gradient and returns h_k; the module must be in evaluation mode."""
    with learner.computing():
        return learner.module(learner.entering(message))


@torch.no_grad()
def predict_head(learner: Learner, live: Tree) -> Tree | None:
    """Returns the prediction, by output, of a module's auxiliary network on h_k, or None where it makes none."""
    with learner.computing():
        return learner.module.predict(live)


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_(value.is_floating_point())


def _versions(values: Tree) -> list[int]:
    return [value._version for value in values.values()]


def _changed_in_place(module: LocalModule, what: str) -> ContractError:
    return ContractError(
        f"local module {module.index} (units {module.unit_names[0]} to {module.name}) changed {what} in place",
        "Another module reads the same memory, so the result would depend on timing",
        "Use the out-of-place form of its first operation (inplace=False), or cut elsewhere.",
    )
