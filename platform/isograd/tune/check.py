"""Whether a space fits the runs that it changes: found out before a study begins."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.errors import IsogradError, SpaceError
from isograd.executors.executor import check
from isograd.planning.choose import with_cuts
from isograd.run.experiment import prepare
from isograd.tune.distributions import NUM_MODULES, Categorical, Number
from isograd.tune.ground import changed, ground_of
from isograd.tune.request import Request
from isograd.tune.space import Ground
from isograd.tune.storage import quiet_optuna

_NUM_DRAWS, _NUM_DRAWS_OF_LABEL = 20, 8


def check_request(request: Request) -> None:
    """Draws configurations until one can be trained, and prepares its run as a trial would, data included.

    Raises:
        SpaceError: A parameter sets an option that the runs do not have, or asks for more local modules than units.
        IsogradError: None of the configurations drawn can be trained, or the data cannot be read.
    """
    quiet_optuna()
    ground = ground_of(request.base)
    _check_num_modules(request, ground)
    prepare(replace(_first(request, ground), folder=str(request.folder)))
    for parameter in request.file.space.parameters:
        if isinstance(parameter.distribution, Categorical) and len(parameter.distribution.values) > 1:
            for label in parameter.distribution.values:
                _check_label(request, ground, parameter.name, label)


def _first(request: Request, ground: Ground) -> RunConfig:
    """Returns the first of some configurations drawn that can be trained."""
    refusals: list[IsogradError] = []
    for _, found in _drawn(request, ground, RandomSampler(seed=0), _NUM_DRAWS):
        if isinstance(found, RunConfig):
            return found
        _check_known(request, found)
        refusals.append(found)
    last = refusals[-1]
    raise SpaceError(
        f"none of {_NUM_DRAWS} configurations drawn from space {request.file.name} can be trained; of the last one, "
        f"{last.what}",
        last.why,
        last.mend,
    )


def _check_label(request: Request, ground: Ground, name: str, label: str) -> None:
    """Raises SpaceError for a value with which nothing can be trained, though other values can: a misspelt one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = PartialFixedSampler({name: label}, RandomSampler(seed=0))
    reason: IsogradError | None = None
    for drawn, found in _drawn(request, ground, sampler, _NUM_DRAWS_OF_LABEL):
        if isinstance(found, RunConfig):
            return
        reason = found if name in drawn else reason
    if reason is not None:
        place = request.file.lines.at("parameters", *name.split("."), "values")
        raise SpaceError(
            f"{place}: no configuration with {name}={label} can be trained: {reason.what}", reason.why, reason.mend
        )


def _drawn(
    request: Request, ground: Ground, sampler: BaseSampler, count: int
) -> Iterator[tuple[Mapping[str, Any], RunConfig | IsogradError]]:
    """Yields coordinates, and the configuration that they lead to, or why it cannot be trained."""
    study = optuna.create_study(sampler=sampler)
    checked: Blueprint | None = None
    for _ in range(count):
        trial = study.ask()
        try:
            config = with_cuts(changed(request.base, request.file.space.suggest(trial, ground)))
            checked = Blueprint(config).sharing(checked)
            check(checked)
        except IsogradError as error:
            yield trial.params, error
        else:
            yield trial.params, config


def _check_num_modules(request: Request, ground: Ground) -> None:
    found = [parameter for parameter in request.file.space.parameters if parameter.name == NUM_MODULES]
    num_units = len(ground.unit_names_with({}))
    for parameter in found:
        distribution = parameter.distribution
        if isinstance(distribution, Number) and distribution.high > num_units:
            place = request.file.lines.at("parameters", *NUM_MODULES.split("."), "high")
            bounds = ("low", "high") if distribution.low > num_units else ("high",)
            mend = " ".join(f"space.{NUM_MODULES}.{bound}={num_units}" for bound in bounds)
            raise SpaceError(
                f"{place}: {NUM_MODULES} is up to {distribution.high:g}, but the backbone has {num_units} units",
                "Each local module needs at least one",
                f"Use {mend}, or a deeper backbone.",
            )


def _check_known(request: Request, error: IsogradError) -> None:
    """Raises, with its place, for a parameter whose option the runs do not have: it would fail in every trial."""
    for parameter in request.file.space.parameters:
        if not parameter.when and error.what.startswith(f"{parameter.name}=") and "no such option" in error.what:
            place = request.file.lines.at("parameters", *parameter.name.split("."))
            raise SpaceError(f"{place}: {error.what}", error.why, error.mend) from error
