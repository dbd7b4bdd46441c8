"""The fastest way to cut a chain into local modules and to spread them over stages: exact, by dynamic programming.

The pipeline's period is that of its slowest stage or link. A stage takes as long as its units and the auxiliary
networks of its cuts; a link as long as an activation takes to cross it. Nothing else couples the stages, except in
methods with cascade losses, whose waits the simulation of the schedule adds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from isograd.errors import PartitionError


@dataclass(frozen=True)
class Piece:
    """A part of the chain that is not divided: a unit, or a whole local module.

    Attributes:
        seconds: Of a training step through it, on a device of speed 1.
        cut_seconds: More, where a local module ends with it: its auxiliary network.
        output_bytes: Of the activation that leaves it, a batch.
        state_bytes: Weights, gradients and optimizer state.
        cut_state_bytes: More, where a local module ends with it.
        activation_bytes: Kept from forward to backward.
        cut_activation_bytes: More, where a local module ends with it.
    """

    seconds: float
    cut_seconds: float = 0.0
    output_bytes: int = 0
    state_bytes: int = 0
    cut_state_bytes: int = 0
    activation_bytes: int = 0
    cut_activation_bytes: int = 0


@dataclass(frozen=True)
class Limits:
    """What the stages and the links between them can do.

    Attributes:
        speeds: Of each stage's device, in order.
        link_bytes_per_s: Of the link between two stages.
        memory_bytes: Of a stage; infinity for no limit.
        queued_messages: How many activations a stage's inbound queue holds at most.
    """

    speeds: tuple[float, ...]
    link_bytes_per_s: float = float("inf")
    memory_bytes: float = float("inf")
    queued_messages: int = 4


@dataclass(frozen=True)
class Assignment:
    """Cuts and stages.

    Attributes:
        ends: For each local module the position after its last piece.
        stages: Which consecutive local modules each stage hosts.
        period_s: Of the slowest stage or link.
    """

    ends: tuple[int, ...]
    stages: tuple[range, ...]
    period_s: float


def balanced(pieces: Sequence[Piece], num_modules: int, limits: Limits) -> Assignment:
    """Returns the assignment of least period.

    Args:
        pieces: The chain.
        num_modules: K; at least as many as stages, at most as many as pieces.
        limits: Of stages and links; as many stages as it has speeds, each hosting at least one module.

    Raises:
        PartitionError: There are too few pieces or modules, or no assignment fits into the memory limit.
    """
    check_counts(len(pieces), num_modules, len(limits.speeds))
    chain = _Chain(pieces, limits)
    draft = _search(chain, num_modules, float("inf"), width=_DRAFT_WIDTH)
    best = _search(chain, num_modules, float("inf") if draft is None else draft.period_s, width=None)
    if best is None:
        raise _too_large(chain, num_modules)
    return best.assignment()


_DRAFT_WIDTH = 2  # labels a state in the first, inexact search, whose result bounds the exact one


@dataclass(frozen=True)
class _Label:
    """The modules so far, in the best way for what can follow: no other label is better in every respect.

    ``num_stages`` have been opened; ``stage_s``, ``state_bytes`` and ``peak_bytes`` are the open one's so far.
    """

    num_stages: int
    period_s: float
    stage_s: float
    state_bytes: float
    peak_bytes: float
    before: "_Label | None"
    end: int

    def dominates(self, other: "_Label") -> bool:
        return (
            self.period_s <= other.period_s
            and self.stage_s <= other.stage_s
            and self.state_bytes <= other.state_bytes
            and self.peak_bytes <= other.peak_bytes
        )

    def path(self) -> Iterator["_Label"]:
        if self.before is not None:
            yield from self.before.path()
            yield self

    def assignment(self) -> Assignment:
        labels = list(self.path())
        first = [i for i, label in enumerate(labels) if label.before and label.num_stages > label.before.num_stages]
        stages = tuple(range(start, end) for start, end in zip(first, [*first[1:], len(labels)], strict=True))
        return Assignment(tuple(label.end for label in labels), stages, self.period_s)


class _Chain:
    """The pieces with their running sums."""

    def __init__(self, pieces: Sequence[Piece], limits: Limits) -> None:
        self.pieces, self.limits = pieces, limits
        self._seconds, self._state, self._activation = [0.0], [0], [0]
        for piece in pieces:
            self._seconds.append(self._seconds[-1] + piece.seconds)
            self._state.append(self._state[-1] + piece.state_bytes)
            self._activation.append(self._activation[-1] + piece.activation_bytes)

    @cached_property
    def least_bytes(self) -> float:
        """What the most demanding single piece needs by itself."""
        return max(piece.state_bytes + piece.activation_bytes for piece in self.pieces)

    def can_end_within(self, label: _Label, bound_s: float) -> bool:
        """Whether what is left could be done in that period, did cuts cost nothing and pieces divide freely."""
        speeds, used = self.limits.speeds, label.num_stages
        room_s = bound_s * sum(speeds[used - 1 :]) - label.stage_s
        return self._seconds[-1] - self._seconds[label.end] <= room_s * (1 + 1e-9)

    def extended(self, label: _Label, end: int, *, opens: bool) -> _Label | None:
        """Returns the label with one more module, up to ``end``, in the open stage or in one that it opens."""
        last, limits, start = self.pieces[end - 1], self.limits, label.end
        seconds = self._seconds[end] - self._seconds[start] + last.cut_seconds
        state = self._state[end] - self._state[start] + last.cut_state_bytes
        peak = self._activation[end] - self._activation[start] + last.cut_activation_bytes
        arrival_s = 0.0
        if opens:
            queued = self.pieces[start - 1].output_bytes if start else 0
            state += limits.queued_messages * queued
            arrival_s = queued / limits.link_bytes_per_s
        else:
            seconds, state, peak = seconds + label.stage_s, state + label.state_bytes, max(peak, label.peak_bytes)
        if state + peak > limits.memory_bytes:
            return None
        num_stages = label.num_stages + opens
        period_s = max(label.period_s, seconds / limits.speeds[num_stages - 1], arrival_s)
        if limits.memory_bytes == float("inf"):
            return _Label(num_stages, period_s, seconds, 0.0, 0.0, label, end)
        return _Label(num_stages, period_s, seconds, state, peak, label, end)


def _search(chain: _Chain, num_modules: int, bound_s: float, width: int | None) -> _Label | None:
    """Returns the best label of the whole chain whose period is at most ``bound_s``; None where there is none.

    Args:
        chain: The pieces.
        num_modules: K.
        bound_s: Longer periods are given up on.
        width: How many labels are kept for the same end and number of stages; None: all that might be best.
    """
    layer = {(0, 0): [_Label(0, 0.0, 0.0, 0.0, 0.0, None, 0)]}
    for module in range(num_modules):
        layer = _next_layer(chain, layer, num_modules - module - 1, bound_s, width)
    found = layer.get((len(chain.pieces), len(chain.limits.speeds)), [])
    return min(found, key=lambda label: label.period_s, default=None)


_Layer = dict[tuple[int, int], list[_Label]]  # by end and number of stages


def _next_layer(chain: _Chain, layer: _Layer, num_left: int, bound_s: float, width: int | None) -> _Layer:
    """Adds one local module to all labels, in all ways that leave something for each of ``num_left`` later ones."""
    found: _Layer = {}
    for labels in layer.values():
        for label in labels:
            for extended in _extensions(chain, label, num_left):
                if extended.period_s <= bound_s and chain.can_end_within(extended, bound_s):
                    _keep(found.setdefault((extended.end, extended.num_stages), []), extended)
    if width is not None:
        found = {state: sorted(kept, key=_promise)[:width] for state, kept in found.items()}
    return found


def _extensions(chain: _Chain, label: _Label, num_left: int) -> Iterator[_Label]:
    last_end, num_stages = len(chain.pieces) - num_left, len(chain.limits.speeds)
    for opens in (True, False):
        opened = label.num_stages + opens
        if 1 <= opened <= num_stages <= opened + num_left:
            for end in range(label.end + 1 if num_left else last_end, last_end + 1):
                extended = chain.extended(label, end, opens=opens)
                if extended is not None:
                    yield extended


def _promise(label: _Label) -> tuple[float, float]:
    return label.period_s, label.stage_s


def _keep(kept: list[_Label], label: _Label) -> None:
    """Adds a label unless another one is as good in every respect; drops those that it beats."""
    if not any(other.dominates(label) for other in kept):
        kept[:] = [other for other in kept if not label.dominates(other)]
        kept.append(label)


def check_counts(num_pieces: int, num_modules: int, num_stages: int) -> None:
    """Raises PartitionError where not every module gets a piece, or not every stage a module."""
    if not num_stages <= num_modules <= num_pieces:
        raise PartitionError(
            f"cannot cut {num_pieces} units into {num_modules} local modules on {num_stages} stages",
            "Each local module needs at least one unit, each stage at least one local module",
            f"Use partition.num_modules={num_pieces} or less, and executor.num_stages no larger than that.",
        )


def _too_large(chain: _Chain, num_modules: int) -> PartitionError:
    limits = chain.limits
    num_stages = len(limits.speeds)
    return PartitionError(
        f"no way to cut {len(chain.pieces)} units into {num_modules} local modules on {num_stages} stages "
        f"stays within {limits.memory_bytes / 2**20:,.0f} MiB a stage",
        f"The largest unit alone needs {chain.least_bytes / 2**20:,.0f} MiB with its weights, optimizer state and "
        "activations; queues come on top",
        "Use more stages (executor.num_stages), a smaller data.batch_size, or a larger partition.memory_mib.",
    )
