"""DGL, decoupled greedy learning (Belilovsky, Eickenberg, Oyallon, "Decoupled Greedy Learning of CNNs", ICML 2020).

Module k < K-1 minimises the cross-entropy of an auxiliary network on its own activation h_k (equation 2); the last
module has the network's own classifier. Nothing else is exchanged, so any delay between modules gives the same weights.
"""

from dataclasses import dataclass

from isograd.local.base import DGLBase, DGLConfig, Site
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective
from isograd.partition.partition import Partition


@METHODS.register("dgl")
class DGL(Method):
    """Cross-entropy of an auxiliary network, coefficient 1.

    Note:
        "DGL" has had several auxiliary networks. ``mlp_sr`` is the paper's default, ``mlp`` and ``cnn`` its other two;
        ``auglocal`` and ``manpp`` are those of the later papers whose tables carry a row "DGL". For transformers, on
        which DGL was not published, ``token`` is LayerNorm, class token, linear. ``auto``, our default, is ``token``
        for tokens and ``mlp_sr`` for maps.

        DGL's release halves its idea of a ResNet's map size already in the first stage (it counts shortcut
        convolutions), so its 25-bottleneck cut of ResNet-152 pools to 2x2 before the 1x1 convolutions. We use the
        real size. The release steps module k before module k+1 runs, but hands over the activation computed before;
        so do we. It also re-creates its optimizer at drops of the learning rate, which clears the momentum; we do not.
    """

    @dataclass
    class Config(DGLConfig):
        """DGL's options; see :class:`~isograd.local.base.DGLConfig`."""

        name: str = "dgl"

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the named auxiliary network on the module's last feature."""
        base = DGLBase(self.config, self.task, self.dataset)
        return base.objective(Site.after(partition, index))
