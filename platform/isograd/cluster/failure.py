"""What the driver does while stages run: merge their events, and when one fails, find out which and why."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from isograd.cluster.death import death_of, is_death
from isograd.errors import IsogradError, ProcessDiedError, StageFailedError
from isograd.events.events import Event, Progress
from isograd.system.trouble import trouble_of


class NeighbourLostError(Exception):
    """A stage found that another one is no longer there."""


_WHY = "Its neighbours cannot go on without it; training since the last checkpoint is lost"
_MEND = "Use `isograd resume RUN_FOLDER` to go on from there."
_GRACE_S = 2.0
_WAIT_S = 1.0


def merged(streams: Sequence[Any]) -> Iterator[Event]:
    """Yields the events of all stages as they come, each stage's in order.

    Args:
        streams: An event stream of each stage.

    Raises:
        IsogradError: What a stage raised.
        StageFailedError: A stage died, or raised anything else.
    """
    open_streams = {stream: index for index, stream in enumerate(streams)}
    steps = [0] * len(streams)
    while open_streams:
        ready, _ = ray.wait(list(open_streams), num_returns=1, timeout=_WAIT_S, fetch_local=False)
        for stream in ready:
            index = open_streams[stream]
            try:
                event: Any = ray.get(next(cast(Any, stream)))
            except StopIteration:
                del open_streams[stream]
            except RayError as error:
                raise _diagnosis(index, error, open_streams, steps) from None
            else:
                if isinstance(event, Progress):
                    steps[index] = event.step
                yield event


def raise_cause(calls: Sequence[Any]) -> list[Any]:
    """Waits for a call of each stage's actor.

    Raises:
        ProcessDiedError: A stage's process has ended.
        IsogradError: What an actor raised, not Ray's wrapping of it; so for errors that are not the platform's.
    """
    try:
        return ray.get(list(calls))
    except RayError as error:
        raise _cause(calls, error) from None


def _cause(calls: Sequence[Any], error: RayError) -> BaseException:
    """Tells the stage that failed from those that failed because of it, as :func:`_diagnosis` does."""
    failures = dict(_failures(calls)) or {0: error}
    own = {stage: found for stage, found in failures.items() if not _is_consequence(found)}
    stage, cause = min((own or failures).items())
    found = _own_error(cause)
    return _died(stage, found, "outside of training") if isinstance(found, RayError) and is_death(found) else found


def _failures(calls: Sequence[Any]) -> Iterator[tuple[int, RayError]]:
    deadline_s = time.monotonic() + _GRACE_S
    for stage, call in enumerate(calls):
        try:
            ray.get(call, timeout=max(deadline_s - time.monotonic(), 0))
        except GetTimeoutError:
            continue
        except RayError as error:
            yield stage, error


def _diagnosis(index: int, error: RayError, open_streams: dict[Any, int], steps: Sequence[int]) -> IsogradError:
    """Tells the stage that failed by itself from those that failed because their neighbour did."""
    failures = {index: error, **_other_failures(index, open_streams)}
    own = {stage: found for stage, found in failures.items() if not _is_consequence(found)}
    stage, cause = min(own.items()) if own else (index, error)
    return _as_isograd(stage, _unwrapped(cause), f"at about step {steps[stage]}")


def _other_failures(index: int, open_streams: dict[Any, int]) -> dict[int, RayError]:
    """Listens a little longer: the stage that caused it all may not be the first to be heard of."""
    found: dict[int, RayError] = {}
    waiting = {stream: stage for stream, stage in open_streams.items() if stage != index}
    deadline_s = time.monotonic() + _GRACE_S
    while waiting and (left_s := deadline_s - time.monotonic()) > 0:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=left_s, fetch_local=False)
        for stream in ready:
            try:
                ray.get(next(cast(Any, stream)))
            except StopIteration:
                del waiting[stream]
            except RayError as error:
                found[waiting.pop(stream)] = error
    return found


def _is_consequence(error: RayError) -> bool:
    """Whether a stage failed only because another one no longer takes or sends its messages."""
    return isinstance(error, RayTaskError) and isinstance(
        error.cause, RayActorError | ConnectionError | NeighbourLostError
    )


def _unwrapped(error: RayError) -> BaseException:
    return error.cause if isinstance(error, RayTaskError) and error.cause is not None else error


def _own_error(error: RayError) -> BaseException:
    """Finds the platform's error in Ray's wrapping, also where an actor could not be built."""
    cause = _unwrapped(error)
    while cause is not None and not isinstance(cause, IsogradError):
        cause = cause.__cause__
    return cause or _unwrapped(error)


def _as_isograd(stage: int, cause: BaseException, when: str) -> IsogradError:
    if isinstance(cause, IsogradError):
        return cause
    if isinstance(cause, RayError) and is_death(cause):
        return _died(stage, cause, when)
    found = trouble_of(cause)
    if found is not None:
        return type(found)(f"stage {stage} failed {when}: {found.what}", found.why, found.mend)
    return StageFailedError(f"stage {stage} failed {when}: {_brief(cause)}", _WHY, _MEND)


def _died(stage: int, cause: RayError, when: str) -> ProcessDiedError:
    death = death_of(cause)
    error = ProcessDiedError(f"stage {stage} died {when}: {death}", _WHY, _MEND)
    error.lost_node = death.lost_node
    return error


def _brief(cause: BaseException) -> str:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {' '.join(lines)[:400]}"
