"""What a search is asked for in vain, though nothing is wrong with it: said, and done all the same."""

from collections.abc import Iterator

from isograd.tune.ground import options_of
from isograd.tune.request import Request

_RATE = "optimizer.lr"


def remarks(request: Request) -> Iterator[str]:
    """Yields a line for each thing that has no effect: a parameter that no epoch depends on, a scheduler that never
    stops a trial.
    """
    sweep, epochs = request.sweep, request.base.train.epochs
    if _searches_rate(request) and not _rate_matters(request):
        yield (
            f"note: {_RATE} is searched, but has no effect in {counted(epochs, 'epoch')}: "
            f"schedule={request.base.schedule.name} never comes to it. Use more epochs, or schedule=cosine."
        )
    if sweep.scheduler == "asha" and sweep.grace_epochs > max(1, epochs - 1):
        yield (
            f"note: asha stops no trial: it waits for tune.grace_epochs={sweep.grace_epochs} of "
            f"{counted(epochs, 'epoch')}. Use fewer, or tune.scheduler=none."
        )


def counted(number: int, noun: str) -> str:
    """Returns ``1 epoch``, ``2 epochs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _searches_rate(request: Request) -> bool:
    """Whether trials differ in their peak learning rate, under one schedule."""
    parameters, options = request.file.space.parameters, options_of(request.base)
    sets = {option for parameter in parameters for option in parameter.sets}
    if any(option.partition(".")[0] == "schedule" for option in sets):
        return False
    return any(
        _RATE in parameter.sets and all(options.get(name) in values for name, values in parameter.when.items())
        for parameter in parameters
    )


def _rate_matters(request: Request) -> bool:
    schedule, epochs = request.base.schedule, request.base.train.epochs
    return any(schedule.lr(1.0, epoch, epochs) != schedule.lr(2.0, epoch, epochs) for epoch in range(1, epochs + 1))
