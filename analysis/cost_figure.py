"""Draws figures/cost.png and figures/cost.svg, for docs/results.md: return after 100,000 steps against arithmetic.

python -m analysis.cost_figure
"""

from pathlib import Path

from analysis.agents_100k import DEVELOPMENT, read_agents
from analysis.style import COLOURS, GREY, save_figure

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = "figures/cost"
COMMON = tuple(task for task in DEVELOPMENT if task != "ball_in_cup_catch")  # every agent with known sizes has these


def draw(agents):
    """A point per `Agent` that has known sizes and all of the COMMON tasks, as a Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for agent in agents:
        mean = agent.mean(COMMON, at_least=len(COMMON))
        if mean is None or agent.multiply_adds is None:
            continue
        colour = COLOURS[1] if agent.is_ours else COLOURS[0] if agent.at_most_one_update() else GREY
        millions = agent.multiply_adds / 1e6
        axes.plot(millions, mean, "o", color=colour, label=agent.name)
        offset = (7, -3) if agent.is_ours else (7, 3)
        axes.annotate(agent.name, (millions, mean), offset, textcoords="offset points", color=colour, fontsize=9)
    axes.set(xscale="log", xlim=(100, 150_000), ylim=(0, 1000))
    axes.set(xlabel="10^6 multiply-adds of learning per simulator step", ylabel="return after 100,000 simulator steps")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Mean of seven DM Control tasks; grey: more than one update per step", fontsize=11)
    return figure


if __name__ == "__main__":
    save_figure(draw(read_agents(ROOT)), OUTPUT)
