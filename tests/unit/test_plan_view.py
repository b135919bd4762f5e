import numpy as np
import pytest

from video import EXECUTED, OTHER, TEXT, THRESHOLD, PlanView, draw_plan

FRAME = np.full((256, 256, 3), 90, np.uint8)
VIEW = PlanView(12, 3.5, np.array([1.0, 0.8, 0.4, 0.2]), 0.5, 2, 1, False)


def count(frame, colour, columns=slice(None)):
    return (frame[:, columns] == colour).all(-1).sum(0).max(initial=0)


def bar_columns(i, h=4):
    """The middle columns of bar i."""
    left, pitch = 256 * 0.55, (256 - 4 - 256 * 0.55) / h
    return slice(round(left + i * pitch + 0.3 * pitch), round(left + i * pitch + 0.5 * pitch))


def test_bars_are_as_high_as_the_confidences_and_coloured_by_what_is_executed():
    frame = draw_plan(FRAME, VIEW)
    full = (320 - 4 - 1) - (256 + 12)  # pixels for a confidence of 1
    for i, (confidence, colour) in enumerate(zip(VIEW.confidences, (EXECUTED, EXECUTED, OTHER, OTHER), strict=True)):
        assert count(frame, colour, bar_columns(i)) == pytest.approx(confidence * full, abs=4)
        assert count(frame, OTHER if colour == EXECUTED else EXECUTED, bar_columns(i)) == 0


def test_the_threshold_is_a_line_across_all_bars():
    frame = draw_plan(FRAME, VIEW)
    rows = np.flatnonzero((frame == THRESHOLD).all(-1).sum(1) > 100)
    assert len(rows) == 2 and rows.mean() == pytest.approx(315 - 0.5 * 47, abs=1)


def test_the_strip_stands_below_the_frame():
    before = FRAME.copy()
    frame = draw_plan(FRAME, VIEW)
    assert np.array_equal(FRAME, before)
    assert frame.shape == (320, 256, 3) and np.array_equal(frame[:256], FRAME)


def test_a_dot_marks_a_new_plan():
    """Everything else is the same."""
    still, replanned = draw_plan(FRAME, VIEW), draw_plan(FRAME, VIEW._replace(replanned=True))
    changed = np.argwhere((still != replanned).any(-1))
    assert 4 <= len(changed) <= 40
    assert (replanned[tuple(changed.T)] == TEXT).all()


def test_plain_sac_has_text_only():
    frame = draw_plan(FRAME, VIEW._replace(confidences=np.ones(1), executed_length=1, position=0))
    assert (frame[:, :120] == TEXT).all(-1).any()
    assert len(np.unique(frame[256:, 140:])) == 1


def test_text_says_step_return_and_executed_length():
    base = draw_plan(FRAME, VIEW._replace(confidences=np.ones(4)))  # whose bars are all blue or grey
    for other in (VIEW._replace(step=13), VIEW._replace(episode_return=4.5)):
        other = other._replace(confidences=np.ones(4))
        changed = np.argwhere((draw_plan(FRAME, other) != base).any(-1))
        assert len(changed) and changed[:, 1].max() < 130


def test_frames_that_are_too_small_stay_as_they_are():
    for size in range(2, 64):
        frame = np.full((size, size, 3), 90, np.uint8)
        for confidences in (np.ones(1), np.linspace(1, 0, 40)):
            drawn = draw_plan(frame, VIEW._replace(confidences=confidences, replanned=True))
            assert (drawn.shape == frame.shape) == (size < 45) and np.array_equal(drawn[:size], frame)
            assert drawn.shape[0] % 2 == size % 2
