"""What is drawn, and that it can be drawn."""

from pathlib import Path

import pytest

from isograd.compare.comparison import Failure
from isograd.compare.plots import draw, picture
from isograd.display.measures import Measure
from isograd.studies.curves import Curve, band
from isograd.studies.statistics import Spread
from tests.unit.studies.records import ERROR, PSNR, comparison, config, entry, finished


def test_curves_are_means_over_the_seeds_that_reached_an_epoch() -> None:
    made = comparison(
        entry("dgl", finished(config(seed=0), (0.5, 0.2), 100.0), finished(config(seed=1), (0.3,), 300.0)),
        entry("none", failures=(Failure(0, "it stopped"),)),
    )
    found = picture(made)
    assert found.labels == ("dgl", "none") and found.num_seeds == 2
    (curve,) = found.curves
    assert curve.epochs == (1, 2)
    assert curve.scores[0].mean == pytest.approx(40.0) and curve.scores[0].deviation == pytest.approx(200**0.5)
    assert (curve.scores[1].mean, curve.scores[1].deviation) == (pytest.approx(20.0), None)
    (point,) = found.points
    assert (point.label, point.speed.mean, point.score.mean) == ("dgl", 200.0, pytest.approx(25.0))


def test_a_band_stays_where_values_can_be() -> None:
    error, psnr = Measure.of(ERROR, "test"), Measure.of(PSNR, "test")
    curve = Curve("dgl", (1, 2), (Spread(1.0, 3.0, 2), Spread(2.0, None, 1)))
    assert band(curve, error) == ([0.0, 2.0], [4.0, 2.0])
    assert band(Curve("dgl", (1,), (Spread(99.0, 3.0, 2),)), error) == ([96.0], [100.0])
    assert band(Curve("dgl", (1,), (Spread(99.0, 3.0, 2),)), psnr) == ([96.0], [102.0])
    assert band(Curve("dgl", (1,), (Spread(-1.0, 3.0, 2),)), psnr) == ([-4.0], [2.0])


@pytest.mark.filterwarnings("error")
def test_any_comparison_can_be_drawn_without_touching_settings(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    many = [entry(f"$a_{number}$ & co", finished(config(), (0.5, 0.1))) for number in range(9)]
    draw(picture(comparison(*many)), tmp_path / "many.png")
    draw(picture(comparison(entry("none", failures=(Failure(0, "it stopped"),)))), tmp_path / "none.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.png", "none.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    assert dict(matplotlib.rcParams) == before
