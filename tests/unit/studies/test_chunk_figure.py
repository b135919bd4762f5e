import numpy as np

from studies.chunk_figure import draw


def test_plans_follow_one_another():
    figure = draw(np.array([(1, 0.6, 0.4, 0.9), (1, 0.1, 0.9, 0.9), (1, 1, 1, 1)]), first_step=7, threshold=0.5)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["7\nplan", "9\nplan", "10\nplan"]
    names = [text.get_text() for text in axes.texts if text.get_text().startswith("h")]
    assert names == ["h = 4, k = 2", "h = 4, k = 1", "h = 4, k = 4"]
