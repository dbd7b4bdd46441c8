"""MLAAN (Zhang, Zhang, Wang, Zhu, Guan, Su, Liu, Cai, "MLAAN: Scaling Supervised Local Learning with Multilaminar Leap
Augmented Auxiliary Network", AAAI 2025).

MLM, multilaminar local modules: each module has an independent loss and a cascade loss that trains a window of adjacent
modules, as in HPFF. LAM, leap augmented modules: the cascade's auxiliary network is a thumbnail of the rest of the
network, copies of a few later blocks; beside the first copy stands the exponential moving average (EMA) of that block:

    z_0 = Aug_0(h_k) + EMA_0(h_k),  z_j = Aug_j(z_{j-1}),  loss of a head on the last z
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from isograd.local.base import BASES, BaseLoss, RuleConfig, Site, loss_ratio
from isograd.local.blocks import copy_weights, fresh
from isograd.local.ema import EMA, Frozen
from isograd.local.exchange import Exchange
from isograd.local.leaps import check_leaps, leaps
from isograd.local.learner import set_lr_factor
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective, Silent, TaskObjective, Through, Weighted
from isograd.local.window import check_level_weights, check_window, num_passes
from isograd.models.backbone import Unit
from isograd.options import choice, number
from isograd.partition.partition import Partition


class LeapNetwork(nn.Module):
    """LAM: learnt copies of later blocks in a row, and an average beside the first.

    Args:
        learnable: The learnt blocks; the first, the learnable bias, may be left out: ``nn.Identity``, not used.
        average: Beside the first: an :class:`EMA`, or one that does not move.
        fusion: Of the two: ``sum``; ``scaled``, by a learnable s and 2 - s; ``average`` (that one alone).
    """

    def __init__(self, learnable: list[nn.Module], average: Frozen, fusion: str = "sum") -> None:
        super().__init__()
        self.learnable, self.average, self.fusion = nn.ModuleList(learnable), average, fusion
        self.scale = nn.Parameter(torch.ones(())) if fusion == "scaled" else None

    def forward(self, value: Tensor) -> Tensor:
        """Returns the last block's output. Shapes: h_k -> the output of the last block leapt to."""
        value = self._fused(value)
        for block in list(self.learnable)[1:]:
            value = block(value)
        return value

    def _fused(self, value: Tensor) -> Tensor:
        if self.fusion == "average":
            return self.average(value)
        if self.scale is None:
            return self.learnable[0](value) + self.average(value)
        return self.scale * self.learnable[0](value) + (2 - self.scale) * self.average(value)


@METHODS.register("mlaan")
class MLAAN(Method):
    """Independent and cascade losses (``mlm``) behind a thumbnail of the rest of the network (``lam``).

    ``mlm`` and ``lam`` are switched independently: without ``lam`` the base loss stands on h_k; without ``mlm`` each
    module has one loss of its own, with weight 1, and no window.

    Note:
        The released CIFAR class moves one average only (``ema=last``), which leaves the others at their start; the
        paper describes all of them (``ema=all``, the default). The released LAM alone moves all, and the last one twice
        (``ema=last_twice``, equal to a decay of m squared). The class computes the last module's independent loss and
        throws it away, so the network's own loss has weight 1; so do we. The released MLM alone keeps it
        (``last_loss=levels``). The lists also hold averages of later blocks that are never run; we do not keep them,
        nor its unused heads.

        The released lists are of ResNet-32 with K of 8 and 15 and ResNet-110 with 32 and 54; for another K of these two
        networks, a module has the leaps that they give for the same end.

        Blocks are copies of the backbone's initial weights (``init=copy``), as released. Where no block follows a
        module, the base loss stands on h_k. We run each module once where the released code runs it up to three times;
        see :class:`isograd.methods.hpff.HPFF`. An EMA absorbs weights from the beginning of the step before, so it
        waits for the module that owns them to have begun that step; ``lag`` lets it use older ones, in both executors
        alike.

        The released InfoPro file interpolates coefficients by stage number: ``coefficients=stage``. It and the ImageNet
        files, which also differ in windows, are not reproduced beyond these options.
    """

    default_table = "mlaan"

    @dataclass
    class Config(RuleConfig):
        """MLAAN's options, and those of the base loss (:class:`~isograd.local.base.RuleConfig`).

        Attributes:
            auxiliary: The head behind the leaps, and the independent one; the release has ``linear``.
            mlm: Whether there are cascade losses over windows.
            lam: Whether there are leaps.
            window: Modules that a cascade loss trains.
            level_weights: Of the independent and of the cascade losses.
            decay: m of the EMA, in [0, 1). The released command line's default, 1, is ``ema=none``.
            ema: ``all`` averages move; only the ``last`` one, of the last local module but one; all, and that one twice
                a step (``last_twice``); or ``none``.
            last_loss: The network's own: the ``cascade`` of weight 1, or both ``levels`` with their weights.
            bias: The learnt copy beside an average: ``on`` (as released), ``off``, or ``scaled``, by a learnable s and
                2 - s, as in MAN++.
            bias_lr: Factor on the learning rate of that copy.
            init: ``copy`` or ``random``.
            leaps: ``auto``: the released lists where there are any for the backbone, else the rule; ``rule``.
            num_leaps: Blocks that the rule leaps to, at most.
            lists: Blocks of your own choice, by the unit that a module ends with; they go before ``leaps``.
            lag: Steps by which the averages' source is older than need be.
        """

        name: str = "mlaan"
        auxiliary: str = "linear"
        mlm: bool = True
        lam: bool = True
        window: int = 2
        level_weights: list[float] = field(default_factory=lambda: [0.001, 0.999])
        decay: float = number(0.995, least=0, most=1, below=True)
        ema: str = choice("all", "last", "last_twice", "none")
        last_loss: str = choice("cascade", "levels")
        bias: str = choice("on", "off", "scaled")
        bias_lr: float = number(1.0, least=0)
        init: str = choice("copy", "random")
        leaps: str = choice("auto", "rule")
        num_leaps: int = number(4, least=1)
        lists: dict[str, list[str]] = field(default_factory=dict)
        lag: int = number(0, least=0)

    @property
    def exchange(self) -> Exchange:
        """Gradients go up with MLM, weights with LAM; the image goes down where the base loss needs it."""
        config = self.config
        moves = config.lam and config.ema != "none"
        return Exchange(inputs=self._base.needs_image, up_weights=moves, up_gradient=config.mlm)

    def reach(self, partition: Partition, index: int) -> int:
        """Returns the window's size where a window ends at the module."""
        return self.config.window if self._ends_window(partition, index) else 1

    def follows(self, partition: Partition, index: int) -> tuple[str, ...]:
        """Returns the first block that the module leaps to, where its average moves."""
        units = self._leaps(partition, index)
        return (units[0].name,) if units and self._moves(partition, index) else ()

    def num_passes(self, partition: Partition, index: int) -> list[int]:
        """Counts the passes of the released code: the independent one, and one for each window; the stem runs once."""
        return num_passes(partition, index, self.window(partition, index))

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the independent level; without ``mlm``, the whole loss."""
        self._check(partition)
        if not self.config.mlm:
            return self._leaping(partition, index)
        if index < self.config.window - 1:
            return Silent()
        site = Site.after(partition, index, loss_ratio(self.config, partition, index))
        return Weighted(self.config.level_weights[0], self._base.objective(site))

    def last_objective(self, partition: Partition) -> Objective:
        """Builds the network's own loss, unless it is the last window's."""
        if not self._ends_window(partition, partition.num_modules - 1):
            return TaskObjective(self.task)
        if self.config.last_loss == "cascade":
            return Silent()
        return Weighted(self.config.level_weights[0], TaskObjective(self.task))

    def cascade(self, partition: Partition, index: int) -> Objective | None:
        """Builds the cascade level; for the last module the network's own loss."""
        if not self._ends_window(partition, index):
            return None
        if partition.is_last(index):
            loss = TaskObjective(self.task)
            return loss if self.config.last_loss == "cascade" else Weighted(self.config.level_weights[1], loss)
        return Weighted(self.config.level_weights[1], self._leaping(partition, index))

    def initialise(self, objective: nn.Module, partition: Partition, index: int) -> None:
        """Draws all weights; with ``init=copy``, the blocks then take those of the backbone's."""
        super().initialise(objective, partition, index)
        networks = [part for part in objective.modules() if isinstance(part, LeapNetwork)]
        if self.config.init == "copy":
            for network in networks:
                _copy_weights(network, self._leaps(partition, index))

    @property
    def _base(self) -> BaseLoss:
        return BASES.get(self.config.base)(self.config, self.task, self.dataset)

    def _leaping(self, partition: Partition, index: int) -> Objective:
        units, ratio = self._leaps(partition, index), loss_ratio(self.config, partition, index)
        if not units:
            return self._base.objective(Site.after(partition, index, ratio))
        objective = self._base.objective(Site.after(partition, index, ratio, units[-1].output))
        return Through(self._leap_network(partition, index, units), objective)

    def _leap_network(self, partition: Partition, index: int, units: list[Unit]) -> LeapNetwork:
        config = self.config
        learnable = [fresh(unit) for unit in units]
        set_lr_factor(learnable[0], config.bias_lr)
        if config.bias == "off":
            learnable[0] = nn.Identity()
        fusion = {"on": "sum", "off": "average"}.get(config.bias, config.bias)
        return LeapNetwork(learnable, self._average(partition, index), fusion)

    def _average(self, partition: Partition, index: int) -> Frozen:
        unit, config = self._leaps(partition, index)[0], self.config
        if self._moves(partition, index):
            twice = config.ema == "last_twice" and self._is_last_average(partition, index)
            return EMA(fresh(unit), unit.name, config.decay**2 if twice else config.decay, config.lag)
        return Frozen(fresh(unit))

    def _moves(self, partition: Partition, index: int) -> bool:
        if not self.config.lam or (self.config.mlm and not self._ends_window(partition, index)):
            return False
        if self.config.ema == "last":
            return self._is_last_average(partition, index)
        return self.config.ema != "none"

    def _is_last_average(self, partition: Partition, index: int) -> bool:
        return index == partition.num_modules - 2

    def _leaps(self, partition: Partition, index: int) -> list[Unit]:
        if not self.config.lam or partition.is_last(index):
            return []
        config = self.config
        return leaps(partition, index, lists=config.lists, rule=config.leaps == "rule", count=config.num_leaps)

    def _ends_window(self, partition: Partition, index: int) -> bool:
        return self.config.mlm and partition.num_modules > 1 and index >= self.config.window - 1

    def _check(self, partition: Partition) -> None:
        if self.config.mlm:
            check_window(self.config.window, partition)
        check_level_weights(self.config.level_weights)
        check_leaps(partition, self.config.lists)


def _copy_weights(network: LeapNetwork, units: list[Unit]) -> None:
    for block, unit in zip(network.learnable, units, strict=True):
        if not isinstance(block, nn.Identity):
            copy_weights(block, unit)
    copy_weights(network.average.block, units[0])
