"""InfoPro (Wang, Ni, Song, Yang, Huang, "Revisiting Locally Supervised Learning: an Alternative to End-to-end
Training", ICLR 2021).

Module k < K-1 minimises lambda1 BCE(decoder(h_k), image) + lambda2 L_y(head(h_k)) (equation 9): keep the information
about the image, and make the activation useful for the task. L_y is cross-entropy or a supervised contrastive loss.
"""

from dataclasses import dataclass

from isograd.local.base import InfoProBase, InfoProConfig, Site, depth_ratio
from isograd.local.exchange import Exchange
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective
from isograd.partition.partition import Partition


@METHODS.register("infopro")
class InfoPro(Method):
    """Reconstruction of the image plus a local task loss.

    Note:
        The coefficients are interpolated over the module index, r = k / (K - 2), r = 0 for K = 2. K is the number of
        pieces. A coefficient of 0 still yields zero gradients, so weight decay and momentum act on that part, as in
        the release. The image is reconstructed from normalised * std + mean (see ``Normalize``). The release's
        evaluation loss is cross-entropy only; accuracy is what we report.

        ``decoder=imagenet`` and ``head=imagenet`` are the released ImageNet parts for 512x28x28 activations; biases
        that a following BatchNorm cancels are left out. InfoPro was not published for transformers: there, patch
        tokens are laid out as a map.
    """

    @dataclass
    class Config(InfoProConfig):
        """InfoPro's options; see :class:`~isograd.local.base.InfoProConfig`."""

        name: str = "infopro"

    @property
    def exchange(self) -> Exchange:
        """The image goes down to the decoders."""
        return Exchange(input=True)

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds decoder and head for the module's last feature, with its interpolated coefficients."""
        feature = partition.units(index)[-1].output
        base = InfoProBase(self.config, self.task, self.normalize)
        return base.objective(Site(partition, feature, depth_ratio(index, partition.num_modules)))
