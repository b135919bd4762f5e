"""Numbers against arithmetic; the command as a process of its own, on files written here."""

import csv
import json
import os

import imageio.v2 as imageio
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import plot
from analysis import evaluation_file
from analysis.curves import Curve, aggregate, csv_curves, draw, on_common_hours, run_curve
from errors import UsageError
from tests.forked import run_script
from tests.helpers import ROOT


def curves(*ys, x=(10, 20)):
    return [Curve("t", "s", str(i), np.array(x), np.array(y)) for i, y in enumerate(ys)]


def test_many_seeds_have_the_exact_bootstrap_interval():
    """The means of resamples of five zeros and five ones are binomial: P(X < 2) = 0.011, P(X < 3) = 0.055."""
    _, value, low, high = aggregate(curves(*[(v, 10 * v) for v in [0.0, 1.0] * 5]), "mean")
    assert value == pytest.approx([0.5, 5.0]) and low == pytest.approx([0.2, 2.0]) and high == pytest.approx([0.8, 8.0])


def test_interquartile_mean():
    x, value, low, high = aggregate(curves(*[(v, v) for v in (-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1000.0)]), "iqm")
    assert value == pytest.approx([3.5, 3.5])  # of 2, 3, 4, 5
    assert (low < value).all() and (value < high).all()


def test_seeds_are_averaged_at_their_common_steps():
    long, short = curves((1.0, 2.0, 3.0), x=(10, 20, 30)) + curves((5.0, 7.0), x=(20, 30))
    x, value, *_ = aggregate([long, short], "mean")
    assert x.tolist() == [20, 30] and value.tolist() == [3.5, 5.0]


def write(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def results(tmp_path):
    rows = [
        (env, setting, seed, step, step / 100 + seed, 2.5)
        for env in ("cheetah_run", "walker_run")
        for setting in ("plain", "adaptive")
        for seed in (1, 2, 3)
        for step in (1000, 2000, 3000)
    ]
    return write(tmp_path / "eval.csv", ("env", "setting", "seed", "step", "return", "k"), rows)


@pytest.fixture
def run(tmp_path):
    """Training takes an hour per 1,000 steps."""
    directory = tmp_path / "run"
    write(directory / "train.csv", ("step", "duration"), [(1000, 3600), (2000, 3600)])
    write(directory / "eval.csv", ("step", "return", "k"), [(500, 5.0, 1), (2000, 20.0, 2)])
    record = {"args": {"env": "cheetah_run", "experiment": "mine", "seed": 7}}
    (directory / "args.json").write_text(json.dumps(record))
    return directory


def test_curves_of_a_run(run):
    for x, expected in (("steps", [500, 2000]), ("hours", [0.5, 2.0])):
        curve = run_curve(str(run), x, "return")
        assert curve[:3] == ("cheetah_run", "mine", "7")
        assert curve.x.tolist() == expected and curve.y.tolist() == [5.0, 20.0]
    assert run_curve(str(run), "steps", "k").y.tolist() == [1, 2]


def test_hours_go_on_after_the_last_finished_episode(run):
    write(run / "eval.csv", ("step", "return"), [(500, 5.0), (2000, 20.0), (2500, 25.0)])
    assert run_curve(str(run), "hours", "return").x.tolist() == [0.5, 2.0, 2.5]


def test_a_row_that_is_being_written_is_left_out(run):
    for name in ("eval.csv", "train.csv"):
        with open(run / name, "a") as file:
            file.write("3000,2")  # of 2000
    assert run_curve(str(run), "steps", "return").y.tolist() == [5.0, 20.0]
    assert run_curve(str(run), "hours", "return").x.tolist() == [0.5, 2.0]


def test_steps_are_those_of_the_simulator(run, tmp_path):
    record = {"args": {"env": "cheetah_run", "experiment": "mine", "seed": 7, "action_repeat": 4}}
    (run / "args.json").write_text(json.dumps(record))
    assert run_curve(str(run), "steps", "return").x.tolist() == [2000, 8000]
    assert run_curve(str(run), "hours", "return").x.tolist() == [0.5, 2.0]
    columns = ("env", "setting", "seed", "step", "return", "simulator_step")
    older = ("walker_run", "s", 1, 500, 5.0, "")
    path = write(tmp_path / "eval.csv", columns, [older, ("cheetah_run", "s", 1, 500, 5.0, 2000)])
    assert [curve.x.tolist() for curve in csv_curves(str(path), "steps", "return")] == [[500], [2000]]


def test_curves_of_a_benchmark(results):
    found = csv_curves(str(results), "steps", "return")
    assert len(found) == 12
    assert found[1].setting == "plain" and found[1].y.tolist() == [12.0, 22.0, 32.0]


def test_hours_are_interpolated_at_equal_times():
    slow, fast = curves((0.0, 10.0), x=(0.0, 2.0)) + curves((0.0, 40.0), x=(0.0, 4.0))
    found = on_common_hours([slow, fast])
    assert [curve.x.tolist() for curve in found] == [[1.0, 2.0]] * 2
    assert [curve.y.tolist() for curve in found] == [[5.0, 10.0], [10.0, 20.0]]


def test_one_seed_is_drawn_as_it_is():
    (curve,) = curves((0.0, 100.0, 900.0, 300.0), x=(0.5, 0.55, 0.6, 2.0))
    (panel,) = draw([curve], "mean", "hours", "return").axes
    (line,) = panel.get_lines()
    assert line.get_xdata().tolist() == curve.x.tolist() and line.get_ydata().tolist() == curve.y.tolist()


def test_the_figure_shows_every_task_and_setting(results):
    found = csv_curves(str(results), "steps", "return")
    reference = [
        Curve("walker_run", "other", "1", np.array([1000.0, 9000.0]), np.array([1.0, 9.0])),
        Curve("cheetah_run", "other", "1", np.array([5000.0, 9000.0]), np.array([1.0, 9.0])),  # begins too late
    ]
    figure = draw(found, "mean", "steps", "return", reference, {"cheetah_run": ("best", 700.0)})
    cheetah, walker = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["cheetah_run", "walker_run"]
    lines = {line.get_label(): line for line in walker.get_lines() if not line.get_label().startswith("_")}
    assert set(lines) == {"other", "plain (3)", "adaptive (3)"}
    assert lines["plain (3)"].get_ydata().tolist() == pytest.approx([12.0, 22.0, 32.0])
    assert lines["plain (3)"].get_color() != lines["adaptive (3)"].get_color()
    seeds = [line.get_ydata().tolist() for line in walker.get_lines() if line.get_label().startswith("_")]
    assert len(seeds) == 6 and seeds[:3] == [[10 + s, 20 + s, 30 + s] for s in (1, 2, 3)]  # thin lines
    assert figure.legends[0].get_title().get_text() == "mean, thin: each seed, area: range of 3 seeds"
    labels = {line.get_label() for line in cheetah.get_lines()}
    assert "best" in labels and "other" not in labels
    assert walker.get_xlim() == (0, 3000)
    assert lines["other"].get_xdata().tolist() == [1000, 3000]  # later returns do not set the scale
    assert lines["other"].get_ydata().tolist() == [1, 3]


def test_references_and_levels_are_named_after_their_files(tmp_path, results):
    rows = [("walker_run", 1, step, 5.0) for step in (1000, 3000)]
    curves = write(tmp_path / "mine.csv", ("env", "seed", "step", "episode_reward"), rows)
    levels = write(tmp_path / "others.csv", ("env", "return"), [("walker_run", 7.0)])
    args = plot.parse_args([str(results), "--reference", str(curves), "--levels", str(levels)])
    lines = {line.get_label(): line for line in plot.curves_figure(args).axes[1].get_lines()}
    assert lines["mine"].get_ydata().tolist() == [5, 5] and lines["others"].get_ydata() == [7, 7]


@pytest.mark.parametrize("x", ["steps", "hours"])
def test_a_single_evaluation_is_a_dot_with_its_interval(x):
    figure = draw(curves((2.0,), (3.0,), (7.0,), x=(10,)), "mean", x, "return")
    (panel,) = figure.axes
    panel.set(xlim=(0, 20), ylim=(0, 8))
    figure.legends[0].remove()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)

    def blue_at(value):
        """Blue less red at a return."""
        column, row = np.round(panel.transData.transform((10, value))).astype(int)
        red, _, blue = image[len(image) - 1 - row, column]
        return blue - red

    assert blue_at(4) > 150  # the mean
    assert blue_at(1) < blue_at(2.5) < blue_at(4) > blue_at(6.5) > blue_at(7.5) and min(blue_at(2.5), blue_at(6.5)) > 20


def test_the_axis_has_hours_without_metric_prefixes():
    for x in ("hours", "steps"):
        (panel,) = draw(curves((1.0, 2.0, 3.0), x=(0.01, 0.02, 0.03)), "mean", x, "return").axes
        FigureCanvasAgg(panel.figure).draw()
        texts = [label.get_text() for label in panel.get_xticklabels()]
        assert any("m" in text for text in texts) == (x == "steps")
    assert panel.get_xlabel() == "simulator steps"


def test_four_tasks_leave_no_empty_panel():
    found = [Curve(str(task), "s", "1", np.array([10]), np.array([1.0])) for task in range(4)]
    assert all(panel.axison for panel in draw(found, "mean", "steps", "return").axes)


def test_one_seed_has_neither_interval_nor_thin_line():
    figure = draw(curves((1.0, 2.0)), "mean", "steps", "return")
    assert len(figure.axes[0].get_lines()) == 1 and figure.legends[0].get_title().get_text() in ("", "None")


def test_a_line_has_no_dots():
    line, *_ = draw(curves((1.0, 2.0)), "mean", "steps", "return").axes[0].get_lines()
    assert line.get_marker() in ("None", None)


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_rliable_agrees(statistic):
    """Needs `pip install rliable "pandas<3"` beside requirements.txt, else it is skipped.

    With one task, rliable's strata are our seeds. Our 9,999 and their 20,000 resamples leave each quantile uncertain
    by a probability of sqrt(p (1 - p) (1/9999 + 1/20000)) = 0.002: ours must lie between theirs four times as far to
    either side.
    """
    pytest.importorskip("rliable")
    from rliable import library, metrics

    scores = np.random.default_rng(1).lognormal(3.0, 1.0, (12, 2))  # (seeds, evaluations)
    x, value, low, high = aggregate(curves(*scores), statistic)
    of_one_point = {"mean": metrics.aggregate_mean, "iqm": metrics.aggregate_iqm}[statistic]

    def of_each(scores):
        return np.array([of_one_point(scores[..., i]) for i in range(2)])

    def theirs(probability):
        np.random.seed(0)  # rliable draws from there
        size = 1 - 2 * probability
        return library.get_interval_estimates(
            {"": scores[:, None]}, of_each, reps=20_000, confidence_interval_size=size
        )

    np.testing.assert_allclose(value, theirs(0.025)[0][""], rtol=1e-14)
    (outer_low, outer_high), (inner_low, inner_high) = (theirs(p)[1][""] for p in (0.025 - 0.008, 0.025 + 0.008))
    assert (outer_low < low).all() and (low < inner_low).all()
    assert (inner_high < high).all() and (high < outer_high).all()


def command(cwd, *flags):
    return run_script(ROOT / "plot.py", *flags, cwd=cwd)


def test_the_command_writes_figures_and_replaces_none(tmp_path, results, run):
    result = command(tmp_path, results, run, "--statistic", "iqm", "--output", "figures/a")
    assert result.returncode == 0, result.stderr
    image = imageio.imread(tmp_path / "figures" / "a.png")
    assert image.shape[1] > 800 and image.std() > 10
    assert (tmp_path / "figures" / "a.svg").read_text().startswith("<?xml")
    before = (tmp_path / "figures" / "a.png").read_bytes()
    result = command(tmp_path, run, "--output", "figures/a")
    assert result.returncode == 2 and "figures/a.png exists" in result.stderr
    assert (tmp_path / "figures" / "a.png").read_bytes() == before
    assert command(tmp_path, run, "--output", "figures/a", "--replace").returncode == 0
    assert (tmp_path / "figures" / "a.png").read_bytes() != before


def test_the_figure_of_a_sweep(tmp_path):
    rows = [
        {"kind": kind, "setting": k, "k": k, "return": 10.0 * k, "return_low": 9.0 * k, "return_high": 12.0 * k}
        for kind in ("fixed", "confidence", "shuffled")
        for k in (1, 2)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"title": "mine, step 7", "episodes": 3, "rows": rows}))
    result = command(tmp_path, "a.json", "--output", "b")
    assert result.returncode == 0, result.stderr
    assert imageio.imread(tmp_path / "b.png").std() > 10 and "mine, step 7" in (tmp_path / "b.svg").read_text()


def test_the_same_figure_is_the_same_file(tmp_path, results):
    for name in "ab":
        assert command(tmp_path, results, "--output", name).returncode == 0
    for ending in ("png", "svg"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_the_figure_of_several_sweeps(tmp_path):
    for run, value in ((1, 10.0), (2, 14.0)):
        rows = [
            {"kind": kind, "setting": 0.5, "k": 2, "return": value, "return_low": 9.0, "return_high": 15.0}
            for kind in ("fixed", "confidence", "shuffled")
        ]
        (tmp_path / f"{run}.json").write_text(json.dumps({"title": f"mine, seed {run}", "episodes": 3, "rows": rows}))
    result = command(tmp_path, "1.json", "2.json", "--output", "b")
    assert result.returncode == 0, result.stderr
    assert "0 of 2" in result.stdout and "mine, 2 runs" in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    "make, flags, sentence",
    [
        (lambda d: d / "nothing.csv", [], "nothing.csv cannot be read as CSV"),
        (lambda d: d, [], "is not the directory of a run"),
        (lambda d: write(d / "x.csv", ("env", "seed"), [("a", 1)]), [], "no column setting and no column step"),
        (lambda d: write(d / "x.csv", ("env", "setting", "seed", "step", "return"), []), [], "has no rows"),
        (lambda d: write(d / "x.csv", ("env", "setting", "seed", "step", "return"), [("a", "b", 1, 1, "x")]), [],
         "column return does not hold numbers only"),
        (lambda d: write(d / "x.csv", ("env", "setting", "seed", "step", "return"), [("a", "b", 1, "inf", 1)]), [],
         "column step holds inf, which is not finite"),
        (lambda d: d / "eval.csv", ["--x", "hours"], "holds steps only"),
        (lambda d: d / "eval.csv", ["--reference", "eval.csv"], "no column episode_reward"),
        (lambda d: d / "eval.csv", ["--y", "k", "--levels", "eval.csv"], "only with --x steps and --y return"),
        (lambda d: d / "eval.csv", ["eval.csv"], "two curves have the same task, setting and seed"),
        (lambda d: d / "nothing.json", [], "nothing.json is not a JSON file of evaluate.py --sweep or --calibration"),
        (lambda d: d / "run" / "args.json", [], "args.json is not a JSON file of evaluate.py --sweep"),
        (lambda d: d / "nothing.json", ["--statistic", "iqm"], "argument --statistic: only for learning curves"),
        (lambda d: d / "nothing.json", ["--levels", "a.csv"], "argument --levels: only for learning curves"),
        (lambda d: d / "eval.csv", ["a.json"], "JSON files and learning curves cannot be drawn in one figure"),
    ],
)  # fmt: skip
def test_what_cannot_be_plotted_is_refused(tmp_path, results, make, flags, sentence):
    result = command(tmp_path, make(tmp_path), *flags)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert sentence in result.stderr
    assert not (tmp_path / "exp").exists()


def test_default_names_are_numbered(tmp_path, results):
    for expected in ("curves", "curves-2"):
        assert f"wrote exp/plots/{expected}.png\n" in command(tmp_path, results).stdout
    (tmp_path / "exp" / "plots" / "curves.png").write_text("old")
    assert "wrote exp/plots/curves.png\n" in command(tmp_path, results, "--replace").stdout
    files = ["curves-2.png", "curves-2.svg", "curves.png", "curves.svg"]
    assert sorted(os.listdir(tmp_path / "exp" / "plots")) == files
    assert imageio.imread(tmp_path / "exp" / "plots" / "curves.png").std() > 10


ROW = {"kind": "fixed", "setting": 1, "k": 1, "return": 1.0, "return_low": None, "return_high": None}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"title": "a"},
        {"title": 1, "rows": []},
        {"title": "a", "rows": 1},
        {"title": "a", "rows": [1]},
        {"title": "a", "rows": [ROW | {"k": "x"}]},
        {"title": "a", "rows": [ROW | {"return": float("nan")}]},
        {"title": "a", "predicted": 1, "confidence": 2},
    ],
)
def test_a_json_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="a.json is not a JSON file of evaluate.py"):
        evaluation_file.draw([str(tmp_path / "a.json")])


def test_a_sweep_of_one_episode_has_no_intervals(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"title": "a", "episodes": 1, "interval": "", "rows": [ROW]}))
    figure, _ = evaluation_file.draw([str(tmp_path / "a.json")])
    assert figure.legends[0].get_title().get_text() == "1 episodes"


def test_several_sweeps_name_their_interval(tmp_path):
    for seed in (1, 2):
        rows = [ROW, ROW | {"kind": "confidence", "return": float(seed)}]
        (tmp_path / f"{seed}.json").write_text(json.dumps({"title": f"t, seed {seed}", "episodes": 1, "rows": rows}))
    figure, table = evaluation_file.draw([str(tmp_path / "1.json"), str(tmp_path / "2.json")])
    assert figure.legends[0].get_title().get_text() == "bars: range of 2 seeds, each run marked"
    assert "95% t interval" in table


def test_seeds_without_a_common_step_are_refused():
    one, other = (Curve("t", "s", seed, np.array(x), np.zeros(2)) for seed, x in (("1", [1, 3]), ("2", [2, 4])))
    with pytest.raises(UsageError, match="the seeds of t, s have no step in common"):
        aggregate([one, other], "mean")
