"""InfoPro (Wang, Ni, Song, Yang, Huang, "Revisiting Locally Supervised Learning: an Alternative to End-to-end
Training", ICLR 2021).

Module k < K-1 minimises lambda1 BCE(decoder(h_k), image) + lambda2 L_y(head(h_k)) (equation 9): keep the information
about the image, and make the activation useful for the task. L_y is cross-entropy or a supervised contrastive loss.
"""

from dataclasses import dataclass, replace

from isograd.errors import ConfigError
from isograd.local.base import InfoProBase, InfoProConfig, Site, check_unread, depth_ratio, is_sequence
from isograd.local.exchange import Exchange
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective
from isograd.options import choice
from isograd.partition.partition import Partition

# The release's coefficients with the contrastive loss, by data set, backbone and K: (lambda1, lambda2) of the first and
# of the last but one module. "_star" are the memory-balanced partitions. AugLocal's runs use CIFAR-10's K=55.
COEFFICIENTS: dict[str, dict[str, dict[int, tuple[list[float], list[float]]]]] = {
    "cifar10": {
        "resnet32": {
            2: ([5, 0], [1, 0]),
            4: ([6, 1], [0, 2]),
            8: ([5, 0], [0, 2]),
            16: ([5, 0.2], [0.05, 0.5]),
        },
        "resnet110": {
            2: ([5, 0], [0.5, 0]),
            4: ([1, 0], [0, 1]),
            8: ([5, 0], [0, 1]),
            16: ([5, 0.5], [0, 1]),
            55: ([5, 0.5], [0, 1]),
        },
    },
    "stl10": {
        "resnet110": {
            2: ([10, 0], [1, 0]),
            4: ([20, 5], [0.2, 2]),
            8: ([20, 5], [0.2, 1]),
            16: ([20, 10], [0.5, 0.1]),
        }
    },
    "svhn": {
        "resnet110": {
            2: ([1, 0], [0.1, 0]),
            4: ([5, 0.5], [0, 1]),
            8: ([5, 0.5], [0, 2]),
            16: ([5, 0.5], [0.2, 1]),
        }
    },
    "cifar10_star": {"resnet110": {2: ([5, 5], [0.1, 0.1]), 3: ([5, 5], [0, 0.1]), 4: ([5, 5], [0, 0.1])}},
    "stl10_star": {"resnet110": {2: ([20, 20], [1, 1]), 3: ([20, 5], [0.5, 2]), 4: ([20, 10], [0.5, 1])}},
    "imagenet": {
        "resnet101": {2: ([5, 5], [0.75, 0.75])},
        "resnext101_32x8d": {2: ([5, 5], [0.75, 0.75])},
        "resnet152": {2: ([5, 5], [1, 1])},
    },
}


@METHODS.register("infopro")
class InfoPro(Method):
    """Reconstruction of the image plus a local task loss.

    Note:
        The coefficients are interpolated over the module index, r = k / (K - 2), r = 0 for K = 2. K is the number of
        pieces. A coefficient of 0 still yields zero gradients, so weight decay and momentum act on that part, as in
        the release. The image is reconstructed from normalised * std + mean (see ``Normalize``). The release's
        evaluation loss is cross-entropy only; the error is what we report.

        ``decoder=imagenet`` and ``head=imagenet`` are the released ImageNet parts
        (:mod:`isograd.local.imagenet`). InfoPro was not published for transformers: there, patch
        tokens are laid out as a map. For language models we take the reconstruction of LoPT (the same group): each
        module's own input, detached, by a bottleneck of a quarter of the width; LoPT weighs it by 10
        (``lambda1=[10,10]``). The first module reproduces its tokens, by cross-entropy.
    """

    @dataclass
    class Config(InfoProConfig):
        """InfoPro's options; see :class:`~isograd.local.base.InfoProConfig`.

        Attributes:
            coefficients: ``given`` (lambda1 and lambda2 as they are), or the data set whose row of the release's table
                replaces them: ``cifar10``, ``stl10``, ``svhn``, ``cifar10_star``, ``stl10_star``, ``imagenet``.
        """

        name: str = "infopro"
        coefficients: str = choice("given", *COEFFICIENTS)

    @property
    def exchange(self) -> Exchange:
        """The image goes down to the decoders; of a sequence, they reproduce what enters their module."""
        return Exchange(inputs=not is_sequence(self.dataset))

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds decoder and head for the module's last feature, with its interpolated coefficients."""
        base = InfoProBase(_with_coefficients(self.config, partition), self.task, self.dataset)
        return base.objective(Site.after(partition, index, depth_ratio(index, partition.num_modules)))


def _with_coefficients(config: InfoPro.Config, partition: Partition) -> InfoPro.Config:
    """Puts the table's row in. Raises ConfigError where the table has none."""
    if config.coefficients == "given":
        return config
    check_unread(config, ("lambda1", "lambda2"), f"method.coefficients={config.coefficients}")
    backbone, k = partition.backbone.name.rpartition("/")[2], partition.named_num_modules
    rows = COEFFICIENTS[config.coefficients]
    if k not in rows.get(backbone, {}):
        known = ", ".join(f"{name} K={k}" for name in rows for k in rows[name])
        raise ConfigError(
            f"method.coefficients={config.coefficients} has no row for {backbone} with K={k}",
            f"The release tuned its coefficients case by case: {known}",
            "Use method.coefficients=given with method.lambda1 and method.lambda2, or one of these.",
        )
    lambda1, lambda2 = rows[backbone][k]
    return replace(config, lambda1=list(lambda1), lambda2=list(lambda2))
