"""Which Ray cluster a run uses, and what its processes ask of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Demand:
    """What a process asks of a cluster.

    Attributes:
        device: ``auto`` (a GPU where the cluster has any), ``cpu`` or ``cuda``.
        cpus: CPUs that it reserves.
        gpus: GPUs that it reserves where its device is one.
    """

    device: str = "auto"
    cpus: float = 1.0
    gpus: float = 1.0


@dataclass
class ClusterConfig:
    """Which Ray cluster is used.

    Attributes:
        address: Of a running cluster (``auto``, ``ray://...``, ``host:port``); null: in a job, the cluster that it was
            submitted to; else a private one is started, on the loopback interface only, and stopped at the end.
        autoscaler: The file that a cluster which grows was started with (``cluster/aws.yaml``): nodes that may come
            count then, and are waited for. null: what it has now is all.
        num_cpus: Logical CPUs of a private cluster; null: as many as there are.
        object_store_bytes: Size of a private cluster's object store; null: what the queues need.
    """

    address: str | None = None
    autoscaler: str | None = None
    num_cpus: int | None = None
    object_store_bytes: int | None = None
