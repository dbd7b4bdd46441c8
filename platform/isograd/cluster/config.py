"""Which Ray cluster a run uses."""

from dataclasses import dataclass


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
