"""Mean, spread and pairs, against numbers computed by hand."""

import json

import pytest

from isograd.compare.comparison import Failure, check_one_score, choose_split
from isograd.compare.notes import notes
from isograd.errors import ConfigError
from isograd.studies.statistics import Spread, differences, ratios, spread
from tests.unit.studies.records import ERROR, PSNR, comparison, config, entry, finished


def test_the_spread_is_the_sample_standard_deviation() -> None:
    found = spread([2.0, 4.0, 9.0])  # mean 5, squares 9 + 1 + 16 = 26, over 2
    assert found is not None and found.num_values == 3
    assert found.mean == pytest.approx(5.0) and found.deviation == pytest.approx(13**0.5)


def test_one_value_has_no_spread_and_none_no_mean() -> None:
    assert spread([3.0]) == Spread(3.0, None, 1)
    assert spread([]) is None


def test_pairs_are_the_seeds_that_both_have() -> None:
    mine, baseline = {0: 3.0, 2: 8.0, 5: 1.0}, {2: 2.0, 0: 2.0, 1: 7.0}
    assert differences(mine, baseline) == [1.0, 6.0]
    assert ratios(mine, baseline) == [1.5, 4.0]
    assert ratios({0: 1.0}, {0: 0.0}) == []


def test_a_summary_pairs_by_seed() -> None:
    baseline = entry(
        "e2e",
        finished(config("method=e2e", seed=0), (0.4, 0.10), 1000.0),
        finished(config("method=e2e", seed=1), (0.1, 0.20), 2000.0),
    )
    other = entry(
        "dgl",
        finished(config(seed=1), (0.3, 0.26), 3000.0, peak_bytes=5),
        finished(config(seed=0), (0.3, 0.12), 500.0, peak_bytes=7),
        failures=(Failure(2, "it stopped"),),
    )
    made = comparison(baseline, other)
    summary = made.summary(other)
    assert summary.score is not None and summary.difference is not None and summary.best is not None
    assert summary.score.mean == pytest.approx(0.19)
    assert summary.difference.mean == pytest.approx(0.04)  # 0.02 and 0.06
    assert summary.difference.deviation == pytest.approx(0.04 / 2**0.5)
    assert summary.difference.num_values == 2
    assert summary.speed_ratio == pytest.approx(1.0)  # of 0.5 and 1.5, not 3500 / 3000
    assert (summary.peak_bytes, summary.num_epochs) == (7, 2)
    own = made.summary(baseline)
    assert own.difference is None and own.speed_ratio is None
    assert own.best is not None and own.best.mean == pytest.approx(0.1)
    assert made.has_failures and made.seeds == [0, 1, 2]


def test_a_comparison_becomes_json_with_every_run() -> None:
    made = comparison(entry("dgl", finished(config())), entry("none", failures=(Failure(0, "it stopped"),)))
    tree = json.loads(json.dumps(made.to_json(["a note"])))
    first, second = tree["entries"]
    assert first["runs"][0]["curve"] == [{"epoch": 1, "score": 0.5}, {"epoch": 2, "score": 0.25}]
    assert first["summary"]["score"] == {"mean": 0.25, "deviation": None, "num_values": 1}
    assert second["failures"] == [{"seed": 0, "reason": "it stopped"}] and second["summary"]["score"] is None


def test_runs_are_compared_on_the_split_that_all_have() -> None:
    plain = finished(config("method=e2e"), (0.5, 0.25))
    chosen = finished(config(), (0.4, 0.2, 0.3), split="valid", test=0.35)
    made = comparison(entry("e2e", plain), entry("dgl", chosen))
    assert made.split == "test" and made.judged.label == "test or valid error"
    summary = made.summary(made.entries[1])
    assert summary.score is not None and summary.best is not None and summary.difference is not None
    assert (summary.score.mean, summary.best.mean, summary.difference.mean) == (0.35, 0.2, pytest.approx(0.1))
    assert "Test error after the last epoch, and test or valid error of the best" in "\n".join(notes(made))
    assert choose_split([finished(config(), split="valid")]) == "valid"
    with pytest.raises(ConfigError, match="the runs have no split in common"):
        choose_split([plain, finished(config(), split="valid")])


def test_runs_that_are_judged_differently_do_not_compare() -> None:
    assert check_one_score({"dgl": PSNR, "e2e": PSNR}) == PSNR
    with pytest.raises(ConfigError, match=r"'b' is judged by PSNR, dB \(larger is better\), entry 'a' by error, %"):
        check_one_score({"a": ERROR, "b": PSNR})


def test_notes_say_what_the_figures_count() -> None:
    cut_short = config("train.max_steps=4", "optimizer.lr=0.2")
    made = comparison(
        entry("e2e", finished(config("method=e2e")), remarks=("one module, partition options not used",)),
        entry("dgl", finished(cut_short, devices=("cuda:0", "cuda:1")), failures=(Failure(1, "it stopped"),)),
    )
    said = "\n".join(notes(made))
    for part in (
        "Equal epochs: 2",
        "2 seeds (0, 1)",
        "Timed: a machine.",
        "libraries included, on the CPU, memory allocated by torch on a GPU",
        "each holding a device: e2e 1, dgl 2",
        "cut short (train.max_steps): dgl after 4 steps.",
        "differ in: optimizer.lr, train.max_steps",
        "e2e: one module, partition options not used.",
        "dgl, seed 1, failed: it stopped.",
    ):
        assert part in said
    assert "One seed (0): no spread" in "\n".join(notes(comparison(entry("dgl", finished(config())))))
