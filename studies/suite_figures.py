"""Draws figures/suite100k and figures/cost, as .png and .svg: the development tasks, for docs/results.md.

python -m studies.suite_figures
"""

from pathlib import Path

from analysis.curves import Curve, draw, reference_curves
from analysis.style import COLOURS, GREY, save_figure
from studies import paired_arms
from studies.agents_100k import read_agents
from studies.paired_arms import DEVELOPMENT

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = "results/reference/pytorch_sac_curves.csv"
NAME_HEIGHT = 32  # of an agent's name, in units of return
COMMON = tuple(task for task in DEVELOPMENT if task != "ball_in_cup_catch")  # every agent with known sizes has these


def arm_curves(arms):
    """The runs of `paired_arms.finished_arms` as a list of Curve, in the order of the tasks."""
    curves = [
        Curve(task, arm, str(seed), paired_arms.STEPS, returns)
        for arm, runs in arms.items()
        for (task, seed), returns in runs.items()
    ]
    return sorted(curves, key=lambda curve: DEVELOPMENT.index(curve.task))


def draw_cost(agents):
    """A point per `Agent` that has known sizes and all of the COMMON tasks, as a Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    points = [(agent, agent.mean(COMMON, at_least=len(COMMON))) for agent in agents if agent.multiply_adds is not None]
    points = [(agent, agent.multiply_adds / 1e6, mean) for agent, mean in points if mean is not None]
    heights = []  # (cost, height) of the names so far
    for agent, millions, mean in sorted(points, key=lambda point: -point[2]):
        colour = COLOURS[1] if agent.is_ours else COLOURS[0] if agent.at_most_one_update() else GREY
        axes.plot(millions, mean, "o", color=colour)
        above = [height for cost, height in heights if 0.7 < cost / millions < 1.4]
        height = min([mean + 10, *(height - NAME_HEIGHT for height in above)])  # below the names of close points
        heights.append((millions, height))
        axes.annotate(agent.name, (millions, mean), (1.1 * millions, height), color=colour, fontsize=9)
    axes.set(xscale="log", xlim=(100, 150_000), ylim=(0, 1000))
    axes.set(xlabel="10^6 multiply-adds of learning per simulator step", ylabel="return after 100,000 simulator steps")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Mean of seven DM Control tasks; grey: more than one update per step", fontsize=11)
    return figure


def main():
    """Write both figures."""
    curves = arm_curves(paired_arms.finished_arms(ROOT))
    published = reference_curves(str(ROOT / PUBLISHED), "published SAC")
    save_figure(draw(curves, "mean", "steps", "return", published), str(ROOT / "figures/suite100k"))
    save_figure(draw_cost(read_agents(ROOT)), str(ROOT / "figures/cost"))


if __name__ == "__main__":
    main()
