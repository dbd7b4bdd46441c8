"""What `isograd plan` simulates is what a stage does: the same actions in the same order, for every method."""

import threading
from dataclasses import replace

import pytest
import torch

from isograd.channels.delivery import Inbox, OnHost, SendingOutbox
from isograd.channels.outbox import Nowhere
from isograd.engine.blueprint import Blueprint
from isograd.engine.stage import Stage
from isograd.events.events import StageTimeline
from isograd.local.action import Action
from isograd.local.message import Kind, Message, Upward
from isograd.local.method import METHODS
from isograd.local.recorder import Recorder
from isograd.partition.partition import even_split
from isograd.planning.forecast import couplings
from isograd.schedules.local import local_learning
from isograd.schedules.schedule import Schedule
from tests.processes import HUNG_S
from tests.runs import config, program

NUM_STEPS, NUM_MODULES = 3, 5


class Delivery:
    """A link within this process."""

    def __init__(self, target: Stage, inbox: Inbox) -> None:
        self._target, self._inbox = target, inbox

    def push(self, sequence: int, message: Message | Upward) -> threading.Thread:
        thread = threading.Thread(target=self._deliver, args=(sequence, message), daemon=True)
        thread.start()
        return thread

    def wait(self, delivery: threading.Thread) -> None:
        delivery.join()

    def _deliver(self, sequence: int, message: Message | Upward) -> None:
        if isinstance(message, Message):
            self._inbox.deliver(sequence, message)
        else:
            self._target.upward.deliver(message)


def planned(blueprint: Blueprint, stages: list[range]) -> Schedule:
    modules = blueprint.check()
    return local_learning(couplings(modules, [1] * len(modules)), stages, NUM_STEPS, queue_depth=2)


def blueprint_of(method: str) -> Blueprint:
    base = Blueprint(config(f"method={method}", "model=resnet20", "model.width=4"))
    num_modules = min(NUM_MODULES, base.method.max_num_modules or NUM_MODULES)
    return Blueprint(replace(base.config, partition=replace(base.config.partition, num_modules=num_modules)))


def recorded(blueprint: Blueprint, stages: list[range]) -> list[list[Action]]:
    """Runs the stages in threads of this process and returns what each did."""
    device = torch.device("cpu")
    routes = blueprint.routes(stages)
    made = [
        Stage(
            index, blueprint.learners(modules, device), Nowhere(), device=device, routes=routes, recorder=Recorder(99)
        )
        for index, modules in enumerate(stages)
    ]
    inboxes = [Inbox() for _ in made]
    found: list[list[Action]] = [[] for _ in made]

    def run(index: int) -> None:
        stage = made[index]
        if index + 1 < len(made):
            stage.outbox = SendingOutbox(Delivery(made[index + 1], inboxes[index + 1]), 2, OnHost())
        targets = stage.upward.targets([learner.module for learner in stage.learners])
        stage.upward.links = {at: SendingOutbox(Delivery(made[at], inboxes[at]), 2, OnHost()) for at in targets}
        messages = (
            inboxes[index].messages()
            if index
            else program(blueprint, max_steps=NUM_STEPS, evaluates=False).messages(device)
        )
        for event in stage.run(messages):
            if isinstance(event, StageTimeline):
                found[index] = [span.action for span in event.spans if not span.action.work.is_wait]

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=HUNG_S)
    return found


@pytest.mark.parametrize("num_stages", [1, 3])
@pytest.mark.parametrize("method", list(METHODS))
def test_the_planned_actions_are_those_of_the_run(method: str, num_stages: int) -> None:
    blueprint = blueprint_of(method)
    num_modules = blueprint.partition.num_modules
    if num_stages > num_modules:
        pytest.skip(f"{method} has {num_modules} local module")
    stages = even_split(num_modules, num_stages)
    schedule = planned(blueprint, stages)
    schedule.check()
    assert recorded(blueprint, stages) == [list(actions) for actions in schedule.devices]


def test_markers_are_not_recorded() -> None:
    blueprint = blueprint_of("dgl")
    steps = {action.step for action in recorded(blueprint, [range(5)])[0]}
    assert steps == set(range(NUM_STEPS)) and Kind.EPOCH.value not in steps
