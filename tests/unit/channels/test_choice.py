"""Which channel a run gets, by where its stages are. No cluster is needed to decide."""

import pytest

from isograd.channels import collective, direct
from isograd.channels.channel import AUTO, Place, choose
from isograd.errors import ChannelError, UnknownNameError

IPC, NIXL = frozenset({"cuda_ipc"}), frozenset({"cuda_ipc", "nixl"})


@pytest.fixture(autouse=True)
def nccl_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective.dist, "is_nccl_available", lambda: True)


@pytest.mark.parametrize(
    ("places", "expected"),
    {
        "CPUs": ([Place("a"), Place("a")], "store"),
        "CPUs with NIXL": ([Place("a", "", frozenset({"nixl"}))] * 2, "store"),
        "one shared GPU": ([Place("a", "0", IPC)] * 2, "direct"),
        "a GPU each": ([Place("a", "0", IPC), Place("a", "1", IPC)], "collective"),
        "a GPU each, with NIXL": ([Place("a", "0", NIXL), Place("a", "1", NIXL)], "direct"),
        "a GPU each on two nodes": ([Place("a", "0", IPC), Place("b", "0", IPC)], "collective"),
        "two on one GPU, one on another": ([Place("a", "0", IPC), Place("a", "0", IPC), Place("a", "1", IPC)], "store"),
        "an old Ray": ([Place("a", "0"), Place("a", "0")], "store"),
        "one stage": ([Place("a")], "store"),
    }.values(),
)
def test_auto_takes_the_best_that_serves(places: list[Place], expected: str) -> None:
    assert choose(AUTO, places) == expected


def test_what_was_asked_for_is_taken_or_refused_with_the_reason() -> None:
    assert choose("collective", [Place("a"), Place("a")]) == "collective"
    with pytest.raises(
        ChannelError, match=r"stages 0 and 1 on the CPU: Ray .* no one-sided transport\. .*install nixl"
    ):
        choose("direct", [Place("a"), Place("a")])
    with pytest.raises(ChannelError, match=r"connect 2 stages on 1 GPUs\. NCCL refuses .*executor.gpus_per_stage=1"):
        choose("collective", [Place("a", "0"), Place("a", "0")])
    with pytest.raises(UnknownNameError):
        choose("pigeons", [Place("a")])


def test_the_direct_transport_is_chosen_for_each_way() -> None:
    here = Place("a", "0", NIXL)
    assert direct.transport(here, Place("a", "0", NIXL)) == "cuda_ipc"
    assert direct.transport(here, Place("a", "1", NIXL)) == "nixl"
    assert direct.transport(here, Place("b", "0", NIXL)) == "nixl"
    assert direct.transport(here, Place("b", "0", IPC)) == ""
    assert direct.transport(Place("a", "", NIXL), Place("a", "", NIXL)) == "nixl"
