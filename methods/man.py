"""MAN, momentum auxiliary network (Su, Cai, Zhu, Xu, Guo, Wang, He, Guo, Li, "Momentum Auxiliary Network for Supervised
Local Learning", ECCV 2024), and its successor MAN++ (Su et al., 2026).

The auxiliary network of module k begins with two copies of the next module's first block: one is learnt (the "learnable
bias"), one is the exponential moving average (EMA) of that block's own weights, so that information of later modules
reaches earlier ones without a gradient:

    y = LB(h_k) + EMA(h_k)        (MAN++: s LB(h_k) + (2 - s) EMA(h_k), s learnable)
    EMA <- m EMA + (1 - m) theta  theta: weights of the next module's first block

The local loss, DGL's or InfoPro's, is that of y.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isograd.errors import ConfigError
from isograd.local.base import BASES, BaseLoss, RuleConfig, Site, depth_ratio, loss_ratio
from isograd.local.blocks import copy_weights, fitted, fresh, repeatable
from isograd.local.ema import EMA
from isograd.local.exchange import Exchange
from isograd.local.learner import set_lr_factor
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective, Through
from isograd.models.backbone import Unit
from isograd.options import choice, number
from isograd.partition.partition import Partition


class MomentumBlocks(nn.Module):
    """A learnt and an averaged block side by side.

    Args:
        learnable: The learnt one, or None.
        ema: The averaged one, or None.
        extra: Learnt blocks behind both (MAN++ has one on vision transformers).
        is_scaled: Whether a learnable s weighs them s and 2 - s; else both by 1.
    """

    def __init__(
        self, learnable: nn.Module | None, ema: EMA | None, extra: list[nn.Module], *, is_scaled: bool = False
    ) -> None:
        super().__init__()
        self.learnable, self.ema = learnable, ema
        self.scale = nn.Parameter(torch.ones(())) if is_scaled else None
        self.extra = nn.Sequential(*extra)

    def forward(self, value: Tensor) -> Tensor:
        """Returns y. Shapes: the input and the output of the next module's first block."""
        return self.extra(self._fused(value))

    def _fused(self, value: Tensor) -> Tensor:
        if self.learnable is None:
            return self.ema(value)  # pyright: ignore[reportOptionalCall]
        if self.ema is None:
            return self.learnable(value)
        if self.scale is None:
            return self.learnable(value) + self.ema(value)
        return self.scale * self.learnable(value) + (2 - self.scale) * self.ema(value)


@METHODS.register("man")
class MAN(Method):
    """A local loss behind a learnt and an averaged copy of the next module's first block.

    Note:
        The EMA absorbs, after a module's backward pass, the weights from before this step's update, as the released
        code does (the paper describes weights from after it). So the newest weights it holds are one update old, and
        the pipeline needs no wait for them. ``lag`` lets it use older ones, in both executors alike.

        In the released code the learnable bias is a whole block, and both blocks start from random draws of their own
        (``init=random``); MLAAN's re-implementation starts from copies (``init=copy``). ``coefficients=stage`` is the
        released interpolation of InfoPro's lambdas (:func:`~isograd.local.base.loss_ratio`), which gives negative
        weights at K = 3 and K = 4; the default, ``depth``, interpolates over the module index as InfoPro does.

        Where the next module holds no block (only the head), the local loss stands on h_k itself.
    """

    default_table = "man"

    @dataclass
    class Config(RuleConfig):
        """MAN's options, and those of the base loss (:class:`~isograd.local.base.RuleConfig`).

        Attributes:
            decay: m of the EMA, in [0, 1).
            blocks: ``both``; ``ema`` (no learnable bias); ``learnable`` (the bias alone).
            fusion: ``sum``, or ``scaled`` (MAN++).
            init: ``random`` or ``copy``.
            bias_lr: Factor on the learning rate of the learnt block.
            num_extra_blocks: Learnt blocks behind both, like the first block from there on that keeps the shape.
            lag: Steps by which the EMA's source is older than need be.
        """

        name: str = "man"
        head: str = "2c2f"
        decay: float = number(0.995, least=0, most=1, below=True)
        blocks: str = choice("both", "ema", "learnable")
        fusion: str = choice("sum", "scaled")
        init: str = choice("random", "copy")
        bias_lr: float = number(1.0, least=0)
        num_extra_blocks: int = number(0, least=0)
        lag: int = number(0, least=0)

    @property
    def exchange(self) -> Exchange:
        """Weights go up; the image goes down where the base loss needs it."""
        return Exchange(inputs=self._base.needs_image, up_weights=self.config.blocks != "learnable")

    def follows(self, partition: Partition, index: int) -> tuple[str, ...]:
        """Returns the next module's first block."""
        block = partition.block_after(index)
        return () if block is None or self.config.blocks == "learnable" else (block.name,)

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds both blocks, and the base loss on what leaves them."""
        _check(self.config)
        block = partition.block_after(index)
        if block is None:
            return self._base.objective(Site.after(partition, index, depth_ratio(index, partition.num_modules)))
        site = Site.after(partition, index, loss_ratio(self.config, partition, index), block.output)
        return Through(self._blocks(partition, block), self._base.objective(site))

    def initialise(self, objective: nn.Module, partition: Partition, index: int) -> None:
        """Draws all weights; with ``init=copy``, both blocks then take the next module's."""
        super().initialise(objective, partition, index)
        block = None if partition.is_last(index) else partition.block_after(index)
        if self.config.init == "copy" and block is not None:
            assert isinstance(objective, Through) and isinstance(objective.network, MomentumBlocks)
            for part in (objective.network.learnable, objective.network.ema):
                if part is not None:
                    copy_weights(part.block if isinstance(part, EMA) else part, block)

    @property
    def _base(self) -> BaseLoss:
        return BASES.get(self.config.base)(self.config, self.task, self.dataset)

    def _blocks(self, partition: Partition, block: Unit) -> MomentumBlocks:
        config = self.config
        learnable = None if config.blocks == "ema" else fresh(block)
        if learnable is not None:
            set_lr_factor(learnable, config.bias_lr)
        ema = None if config.blocks == "learnable" else EMA(fresh(block), block.name, config.decay, config.lag)
        like = repeatable(partition.backbone, block) or block
        extra = [fitted(partition.backbone, like, block.output)[0] for _ in range(config.num_extra_blocks)]
        return MomentumBlocks(learnable, ema, extra, is_scaled=config.fusion == "scaled")


def _check(config: MAN.Config) -> None:
    if config.fusion == "scaled" and config.blocks != "both":
        raise ConfigError(
            f"method.fusion=scaled weighs 2 blocks, but method.blocks={config.blocks} has 1",
            "s and 2 - s share out one activation between the learnt block and the averaged one",
            "Use method.fusion=sum, or method.blocks=both.",
        )
