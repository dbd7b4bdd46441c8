"""AugLocal (Ma, Wu, Si, Tan, "Scaling Supervised Local Learning with Augmented Auxiliary Networks", ICLR 2024).

The auxiliary network of a module that ends in layer l consists of d fresh layers with the structure of later ones,
chosen evenly over the rest of the network, a pool and a linear classifier; its loss is cross-entropy. Depths shrink
towards the output (pyramid), as the rest of the network does.
"""

from dataclasses import dataclass, replace

from torch import nn

from isograd.errors import ConfigError
from isograd.local.blocks import fitted
from isograd.local.method import METHODS, Method
from isograd.local.module import Behind, Objective, TaskObjective
from isograd.models.backbone import MAIN
from isograd.options import number
from isograd.partition.partition import Partition
from isograd.tasks.task import Form


@METHODS.register("auglocal")
class AugLocal(Method):
    """Cross-entropy of an auxiliary network built like later layers.

    Note:
        With units numbered 0 .. N - 1 (the stem is one, the head is not), the auxiliary network of a module that ends
        in unit l is built like units round(l + (N - 1 - l) j / d), j = 1 .. d; halves are rounded to even, as in the
        released code. Where widths differ, a CIFAR ResNet's block has stride 2, once, even from 16 to 64. A module has
        no more auxiliary layers than there are layers behind it.

        In the released code, whose modules are single units, the last d + 1 units form the last module, so K = 55
        trains 49 with d = 6: ``merges_last=true``. By default the partition stays as it was asked for.
    """

    default_table = "auglocal"

    @dataclass
    class Config:
        """Attributes:
        depth: d, layers of the first auxiliary network.
        pyramid: tau in [0, 1]: the share of d - 1 that the last one has less.
        merges_last: Whether modules with no more than d layers behind them join the last module.
        """

        name: str = "auglocal"
        depth: int = number(3, least=1)
        pyramid: float = number(0.5, least=0, most=1)
        merges_last: bool = False

    def arrange(self, partition: Partition) -> Partition:
        """Joins the modules before the last to it that have too few layers behind them, where asked for.

        Raises:
            ConfigError: All modules would be joined, which is end-to-end training.
        """
        if not self.config.merges_last:
            return partition
        depth, last = self.config.depth, _num_layers(partition)
        ends = [end for end in partition.ends[:-1] if last - end > depth]
        if partition.num_modules > 1 and not ends:
            raise ConfigError(
                f"method.merges_last=true with method.depth={depth} leaves one local module of {partition.num_modules}",
                f"No cut has more than {depth} of the backbone's {last} layers behind it, so all would be joined",
                "Use a smaller method.depth, a deeper model, or method.merges_last=false.",
            )
        return Partition(partition.backbone, (*ends, partition.ends[-1]), partition.named_num_modules)

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the auxiliary layers, pool and classifier."""
        feature, layers = partition.units(index)[-1].output, []
        for position in self._positions(partition, index):
            layer, feature = fitted(partition.backbone, partition.backbone.units[position], feature)
            layers.append(layer)
        name = self.task.preferred("pooled")
        options = {"norm": len(layers) <= 1 and feature.layout != "NLC"} if name == "pooled" else {}
        head = self.task.head({**partition.live(index), MAIN: feature}, Form(name, options))
        if name == "pooled":
            module = nn.Sequential(*layers, *head.module.children())
        else:
            module = Behind(nn.Sequential(*layers), head.module)
        return TaskObjective(self.task, replace(head, module=module))

    def depth(self, partition: Partition, index: int) -> int:
        """Returns how many auxiliary layers a module has: d (1 - r tau) + r tau, r = index / (K - 2), at least 1."""
        config, num_modules = self.config, partition.num_modules
        shrunk = config.pyramid * index / (num_modules - 2) if num_modules > 2 else 0.0
        return max(1, round(config.depth * (1 - shrunk) + shrunk))

    def _positions(self, partition: Partition, index: int) -> list[int]:
        """Returns the units whose structure the auxiliary layers have."""
        end, num_layers = partition.ends[index] - 1, _num_layers(partition)
        left = num_layers - 1 - end
        depth = min(self.depth(partition, index), left)
        return [round(end + left * step / depth) for step in range(1, depth + 1)]


def _num_layers(partition: Partition) -> int:
    """Returns N, the units without the head."""
    return len(partition.backbone.units) - 1
