"""Nodes that a cluster does not have yet, but may get: read from the file that its autoscaler was started with."""

from dataclasses import dataclass
from typing import Any

import yaml

from isograd.errors import PlacementError
from isograd.system.paths import user_path


@dataclass(frozen=True)
class NodeType:
    """Attributes:
    resources: Of a node, as Ray names them.
    most: Nodes of this type that there can be.
    """

    resources: dict[str, float]
    most: int


def node_types(path: str | None) -> list[NodeType]:
    """Returns what an autoscaler may start; nothing where no file is named.

    Args:
        path: A cluster's YAML for ``ray up``, or a KubeRay manifest.

    Raises:
        PlacementError: The file cannot be read as one.
    """
    if path is None:
        return []
    try:
        documents = list(yaml.safe_load_all(user_path(path).read_text(encoding="utf-8")))
        found = [node_type for document in documents for node_type in _of(document)]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    if not found:
        raise _unreadable(path, "it names no node types")
    return found


def _of(document: Any) -> list[NodeType]:
    if document.get("apiVersion", "").startswith("ray.io/"):
        document = _from_kuberay(document)
    most = document.get("max_workers", 0)
    types = document.get("available_node_types", {})
    workers = {name: node for name, node in types.items() if name != document.get("head_node_type")}
    return [
        NodeType(
            {name: float(amount) for name, amount in node.get("resources", {}).items()}, node.get("max_workers", most)
        )
        for node in workers.values()
    ]


def _from_kuberay(manifest: dict[str, Any]) -> dict[str, Any]:
    """Ray's own reading of a manifest: what a pod's limits come to. Not public, so only asked for such files."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    spec = manifest["spec"]
    cluster = {"metadata": {"name": "cluster", "namespace": "default"}, "spec": spec.get("rayClusterSpec", spec)}
    return _derive_autoscaling_config_from_ray_cr(cluster | {"metadata": manifest.get("metadata", cluster["metadata"])})


def _unreadable(path: str, reason: str) -> PlacementError:
    return PlacementError(
        f"cluster.autoscaler={path} cannot be read ({reason})",
        "It says which nodes may come when a pipeline asks for them",
        "Use the file that `ray up` or `kubectl` started the cluster with, such as cluster/aws.yaml.",
    )
