"""Which options the outcome of a study's trials depends on: what is drawn, and drawing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isograd.display.measures import SCORE
from isograd.errors import StudyError
from isograd.studies.figures import COLOURS, DARK, escape_text, finish_axes, finish_figure, make_panels
from isograd.studies.study import StudyTable, Trial
from isograd.tune.space import Categorical, Cuts, Parameter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_TRIALS = 8  # complete ones; with fewer, what a forest says is chance
_NUM_TREES, _NUM_SHUFFLES = 300, 10
_BAR_HEIGHT = 0.3  # inches


@dataclass(frozen=True)
class Importance:
    """Of one parameter: by how much R^2 falls when its values are shuffled among trials, over shuffles.

    A mean of about 0: it says nothing about the outcome.
    """

    name: str
    mean: float
    deviation: float


@dataclass(frozen=True)
class Importances:
    """Of all parameters.

    Attributes:
        outcome: What they are important for, as it is called.
        num_trials: Complete ones, which the forest learnt from.
        r2: The forest's out-of-bag R^2: 1 where it foretells the outcome of trials that it has not seen, 0 or less
            where it does no better than their mean, and then importances mean nothing.
        values: The most important first.
    """

    outcome: str
    num_trials: int
    r2: float
    values: tuple[Importance, ...]


def importances(study: StudyTable, outcome: str = SCORE) -> Importances:
    """Measures importances by shuffling: a random forest learns the outcome of the complete trials from their values,
    and foretells it again with one parameter's values shuffled among trials. Each tree is asked about trials that it
    has not seen only. The same study gives the same numbers.

    Note:
        Parameters that depend on each other, as the number of local modules and their cuts, share their importance.
        A condition counts too: that a parameter is absent is one of its levels.

    Raises:
        StudyError: There are fewer than 8 complete trials, or they all came to the same.
    """
    trials, label = study.complete, study.measures[outcome].label
    values = np.array([trial.metrics[outcome] for trial in trials])
    _check(study, label, values)
    blocks = [_encode(parameter, trials) for parameter in study.parameters]
    forest = _Forest(np.concatenate(blocks, axis=1), values)
    r2 = forest.score(forest.inputs)[0]
    measured, start = [], 0
    for parameter, block in zip(study.parameters, blocks, strict=True):
        falls = r2 - forest.score_shuffled(slice(start, start + block.shape[1]))
        measured.append(Importance(parameter.name, float(falls.mean()), float(falls.std(ddof=1))))
        start += block.shape[1]
    return Importances(label, len(trials), float(r2), tuple(sorted(measured, key=lambda each: -each.mean)))


class _Forest:
    """A random forest that is asked about what it has not seen; ``inputs`` and ``values`` have a row a trial.

    Note:
        Neither scikit-learn's permutation importance nor Optuna's asks out of bag, and so few trials leave none over.
    """

    def __init__(self, inputs: NDArray[Any], values: NDArray[Any]) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self.inputs, self._values = inputs.astype(np.float32), values
        forest = RandomForestRegressor(_NUM_TREES, max_features=1 / 3, random_state=0).fit(self.inputs, values)
        self._trees = forest.estimators_
        self._unseen = np.ones((_NUM_TREES, len(values)), dtype=bool)
        for unseen, seen in zip(self._unseen, forest.estimators_samples_, strict=True):
            unseen[seen] = False

    def score(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Returns the out-of-bag R^2 of each copy of the trials that is among ``inputs``, one after the other."""
        sums = np.zeros((len(inputs) // len(self._values), len(self._values)))
        for tree, unseen in zip(self._trees, self._unseen, strict=True):
            sums += tree.predict(inputs, check_input=False).reshape(sums.shape) * unseen
        errors = sums / self._unseen.sum(axis=0) - self._values
        return 1 - (errors**2).mean(axis=1) / self._values.var()

    def score_shuffled(self, columns: slice) -> NDArray[Any]:
        """Returns the scores with some columns shuffled together, one a shuffle."""
        generator = np.random.default_rng(0)
        inputs = np.tile(self.inputs, (_NUM_SHUFFLES, 1))
        orders = [generator.permutation(len(self._values)) for _ in range(_NUM_SHUFFLES)]
        inputs[:, columns] = np.concatenate([self.inputs[order, columns] for order in orders])
        return self.score(inputs)


def _encode(parameter: Parameter, trials: Sequence[Trial]) -> NDArray[Any]:
    """Returns what the forest sees of a parameter: a row a trial."""
    name, distribution = parameter.name, parameter.distribution
    if isinstance(distribution, Cuts):
        positions = [trial.positions(name) for trial in trials]
        num_cuts = max(1, *map(len, positions))
        return np.array([[*cuts, *[0] * (num_cuts - len(cuts))] for cuts in positions])  # 0: no such cut
    values = [trial.values.get(name) for trial in trials]
    if isinstance(distribution, Categorical):
        return np.array([[value == level for level in (*distribution.values, None)] for value in values])
    present = [value for value in values if value is not None]
    absent = min(present, default=0) - (max(present, default=0) - min(present, default=0)) - 1  # apart from all others
    return np.array([[absent if value is None else value] for value in values])


def _check(study: StudyTable, outcome: str, values: NDArray[Any]) -> None:
    if len(values) < LEAST_TRIALS:
        raise StudyError(
            f"{len(values)} complete trials are too few for importances: {LEAST_TRIALS} at least",
            "With so few, an option seems important by chance",
            f"Use `isograd resume {study.folder} --extend N` for more trials.",
        )
    if values.var() == 0:
        raise StudyError(
            f"all {len(values)} complete trials came to the same {outcome}",
            "No option can have made a difference",
            "Use a longer training or a wider space.",
        )


def draw_importances(content: Importances) -> "Figure":
    """Draws a bar a parameter, the most important on top."""
    (axes,) = panels = make_panels(height=max(2.5, 1.2 + _BAR_HEIGHT * len(content.values)))
    names = [escape_text(each.name) for each in content.values]
    deviations = [each.deviation for each in content.values]
    axes.barh(names, [each.mean for each in content.values], xerr=deviations, color=COLOURS[0], ecolor=DARK)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.invert_yaxis()
    finish_axes(axes, "fall of the forest's R² when the parameter's values are shuffled among trials", "")
    axes.grid(visible=False, axis="y")
    axes.set_title(
        f"{content.outcome}, {content.num_trials} complete trials, out-of-bag R² {content.r2:.2f}", fontsize=10
    )
    return finish_figure(panels)
