"""HPFF (Li et al., "HPFF: Hierarchical Locally Supervised Learning with Patch Feature Fusion", ECCV 2024).

HiLo: each module learns from an independent loss of its own, and from the cascade losses of every window of adjacent
modules that it is part of. PFF: the cascade's auxiliary network sees the map in patches. With windows of two,

    module k gets  w_1 dL_k / dtheta_k  +  w_2 d(L'_k + L'_{k+1}) / dtheta_k

where L_k is the independent loss on h_k, L'_k the cascade's, which trains the modules k - 1 and k.
"""

from dataclasses import dataclass, field

from isograd.local.base import BASES, BaseConfig, BaseLoss, Site
from isograd.local.exchange import Exchange
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective, Silent, TaskObjective, Weighted
from isograd.local.patches import Patching
from isograd.local.window import check_level_weights, check_window, num_passes
from isograd.options import choice, number
from isograd.partition.partition import Partition


@METHODS.register("hpff")
class HPFF(Method):
    """Independent and cascade losses, on patches.

    Note:
        The released code runs each module up to three times a step; we run it once and sweep backward through that
        graph once for every loss. Parameters agree with the release bit for bit, BatchNorm's running statistics to
        rounding (they move as by that number of passes).

        As in the released code, modules before the first window's end have no loss of their own
        (``first_loss=true``: they do, as in the paper's figure), and the network's own loss is the last window's
        cascade (``last_window=false``: it trains the last module alone). ``patches=shared`` is the paper's form: one
        network for all patches, heads' outputs averaged; where the base is InfoPro, each patch also reconstructs its
        part of the image. ``patches=quadrants`` is the released one: four decoders whose losses are summed, and heads
        on the whole map. The released ImageNet code does not split at all (``patches=none``), sums four quadrants'
        means (four times lambda1) and leaves out the independent level (``level_weights=[0,1]``); its parts are
        ``decoder=imagenet_hpff`` and ``head=imagenet``.

        InfoPro's coefficients are interpolated by k / (K - 2), K as the paper names it.
    """

    default_table = "hpff"

    @dataclass
    class Config(BaseConfig):
        """HPFF's options, and those of the base loss (:class:`~isograd.local.base.BaseConfig`).

        Attributes:
            window: Modules that a cascade loss trains.
            level_weights: Of the independent and of the cascade losses.
            patches: ``shared``, ``quadrants`` or ``none``.
            num_patches: n of n x n patches.
            first_loss: Whether modules at which no window ends have their independent loss.
            last_window: Whether the network's own loss trains a window, or the last module alone.
        """

        name: str = "hpff"
        head: str = "2c2f"
        window: int = 2
        level_weights: list[float] = field(default_factory=lambda: [0.001, 0.999])
        patches: str = choice("shared", "quadrants", "none")
        num_patches: int = number(2, least=1)
        first_loss: bool = False
        last_window: bool = True

    @property
    def exchange(self) -> Exchange:
        """Gradients go up; the image goes down where the base loss needs it."""
        return Exchange(inputs=self._base.needs_image, up_gradient=True)

    def reach(self, partition: Partition, index: int) -> int:
        """Returns the window's size where a window ends at the module."""
        return self.config.window if self._ends_window(partition, index) else 1

    def num_passes(self, partition: Partition, index: int) -> list[int]:
        """Counts the passes of the released code: the independent one, and one for each window; the stem runs once."""
        return num_passes(partition, index, self.window(partition, index))

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the independent level: the base loss's head."""
        self._check(partition)
        if index < self.config.window - 1 and not self.config.first_loss:
            return Silent()
        return Weighted(self.config.level_weights[0], self._base.head(self._site(partition, index)))

    def last_objective(self, partition: Partition) -> Objective:
        """Builds the last module's independent level: the network's own loss."""
        if not self._ends_window(partition, partition.num_modules - 1):
            return TaskObjective(self.task)
        return Weighted(self.config.level_weights[0], TaskObjective(self.task))

    def cascade(self, partition: Partition, index: int) -> Objective | None:
        """Builds the cascade level: the base loss on patches; for the last module the network's own loss."""
        if not self._ends_window(partition, index):
            return None
        weight, config = self.config.level_weights[1], self.config
        if partition.is_last(index):
            return Weighted(weight, TaskObjective(self.task))
        patching = Patching(config.patches, config.num_patches)
        return Weighted(weight, self._base.objective(self._site(partition, index), patching))

    @property
    def _base(self) -> BaseLoss:
        return BASES.get(self.config.base)(self.config, self.task, self.dataset)

    def _ends_window(self, partition: Partition, index: int) -> bool:
        is_excluded = partition.is_last(index) and not self.config.last_window
        return partition.num_modules > 1 and index >= self.config.window - 1 and not is_excluded

    def _site(self, partition: Partition, index: int) -> Site:
        named = partition.named_num_modules
        return Site.after(partition, index, index / (named - 2) if named > 2 else 0.0)

    def _check(self, partition: Partition) -> None:
        check_window(self.config.window, partition)
        check_level_weights(self.config.level_weights)
