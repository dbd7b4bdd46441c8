"""A timeline beside its plan: the cause of a difference is named, and both files can be opened."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from isograd.local.action import Action, Span, Work
from isograd.local.recorder import Recorder, make_recorder
from isograd.schedules.drawing import Beside, merged
from isograd.schedules.local import Coupling, local_learning
from isograd.schedules.simulation import simulate
from isograd.schedules.timeline import Timeline

SECONDS = {Work.FORWARD: 0.010, Work.LOSS: 0.002, Work.BACKWARD: 0.020, Work.UPDATE: 0.001, Work.INPUT: 0.001}


def timeline(slower: Mapping[tuple[Work, int], float] | None = None) -> Timeline:
    schedule = local_learning([Coupling(), Coupling()], [range(1), range(1, 2)], 12, queue_depth=2)
    changes = slower or {}

    def duration_s(action: Action) -> float:
        return SECONDS[action.work] + changes.get((action.work, action.module), 0.0)

    return simulate(schedule, duration_s)


def test_the_sentence_names_stage_action_and_amount() -> None:
    sentence = Beside(timeline({(Work.BACKWARD, 1): 0.010}), timeline()).sentence()
    assert sentence.startswith("43.0 ms a batch measured, 34.0 ms planned, 26.5% longer: stage 1, which sets the pace")
    assert "works 10.0 ms more than planned (backward of module 1: 10.0 ms more)" in sentence
    assert "it stands still 1.0 ms less" in sentence


def test_waits_are_told_from_work() -> None:
    late = [
        Span(span.action, span.start_s + 0.005 * span.action.step, span.end_s + 0.005 * span.action.step)
        for span in timeline().devices[0]
    ]
    waits = [Span(Action(Work.SEND, 0, step), 0.0, 0.005) for step in range(12)]
    sentence = Beside(Timeline((tuple([*waits, *late]),)), Timeline(timeline().devices[:1])).sentence()
    assert "works 0.0 ms" in sentence and "stands still 5.0 ms more (longest: wait to send, 5.0 ms)" in sentence


def test_equal_timelines_need_no_explanation() -> None:
    assert "no difference worth explaining" in Beside(timeline(), timeline()).sentence()


def test_the_trace_has_every_span_of_both() -> None:
    beside = Beside(timeline(), timeline())
    events = json.loads(json.dumps(beside.trace()))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert len(spans) == 2 * sum(len(device) for device in timeline().devices)
    assert min(event["ts"] for event in spans) == 0 and {event["pid"] for event in spans} == {1, 2}
    assert spans[1]["name"] == "forward 0" and spans[1]["dur"] == pytest.approx(10_000)


def test_the_picture_can_be_opened(tmp_path: Path) -> None:
    Beside(timeline(), timeline()).draw(tmp_path / "timeline.png")
    with Image.open(tmp_path / "timeline.png") as picture:
        assert picture.width > 1000


def test_stages_on_several_hosts_share_a_clock() -> None:
    span = Span(Action(Work.FORWARD, 0, 0), 1.0, 2.0)
    found = merged([((span,), 100.0), ((span,), 50.0)])
    assert (found.devices[0][0].start_s, found.devices[1][0].end_s) == (101.0, 52.0)


def test_a_recorder_keeps_the_newest_steps_only() -> None:
    recorder = Recorder(num_steps=2)
    for step in range(5):
        with recorder.recording(Work.FORWARD, 0, step):
            pass
    assert [span.action.step for span in recorder.spans()] == [3, 4]
    recorder.clear()
    assert not recorder.spans()


def test_what_raises_is_not_recorded() -> None:
    recorder = Recorder(num_steps=2)
    with pytest.raises(ValueError, match="broken"), recorder.recording(Work.FORWARD, 0, 0):
        raise ValueError("broken")
    assert not recorder.spans()


def test_without_steps_nothing_is_recorded() -> None:
    import torch

    recorder = make_recorder(0, torch.device("cpu"))
    with recorder.recording(Work.FORWARD, 0, 0):
        recorder.note(recorder.mark(), Work.INPUT, 0, 0)
    assert recorder.spans() == ()
