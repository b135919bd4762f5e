"""The tables of README.md and docs/results.md, computed from the files in results/.

    python -m studies.result_tables      writes each table between its markers again

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` says which function computes it.
"""

import json
import re
from pathlib import Path

import numpy as np

from analysis import calibration, threshold_sweep
from analysis.curves import numbers, read_rows
from analysis.statistics import paired_difference
from storage.files import write_atomically
from studies import factorial, first_reward, long_prefixes, paired_arms
from studies.agents_100k import LABELS, read_agents
from studies.paired_arms import DEVELOPMENT

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/results.md")
FIRST, DEFAULTS = "results/first_evidence", "results/defaults"
TASKS = ("cheetah_run", "walker_run", "ball_in_cup_catch", "cartpole_swingup_sparse")
SEEDS = (1, 2, 3)
PLAYED = {task: [f"{FIRST}/{task}-adaptive-s{seed}" for seed in SEEDS] for task in TASKS}  # swept and calibrated
PLAYED["cheetah_run with pushes"] = [f"results/pushed/s{seed}" for seed in SEEDS]
THRESHOLD = 0.5  # the default


def first_evidence():
    """Return after 50,000 steps."""
    settings = ("plain", "fixed", "adaptive")
    return markdown(["", *settings], [[task, *(last_returns(task, name) for name in settings)] for task in TASKS])


def replan():
    """The control that plans at nearly every step."""
    rows = [[task, last_returns(task, "replan"), last_returns(task, "adaptive")] for task in TASKS[:2]]
    return markdown(["", "replan", "adaptive"], rows)


def known_truth():
    """Ten runs on Gusty-v0: learned lengths against shuffled and fixed ones."""
    thresholds = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    sweeps = read_all([f"results/known_truth/s{seed}" for seed in range(1, 11)], "sweep.json")
    by_threshold = {gain["threshold"]: gain for gain in threshold_sweep.pool(sweeps)["gains"]}
    gains = [by_threshold[threshold] for threshold in thresholds]
    if not all(min(gain["gains"]) > 0 for gain in gains):
        raise ValueError("the name of a row says that all ten seeds are better")
    over_fixed = [np.array([threshold_sweep.over_fixed(sweep, at) for sweep in sweeps]) for at in thresholds]
    rows = [
        ["mean $k$", *(f"{gain['k']:.1f}" for gain in gains)],
        ["return over the same lengths, shuffled", *(f"{gain['gain']:.1f}" for gain in gains)],
        ["its $p$, paired over seeds (all ten are better)", *(p_value(gain["p"]) for gain in gains)],
        ["return over a fixed length at the same looks per step", *(f"{values.mean():.1f}" for values in over_fixed)],
        ["seeds with a better return", *(f"{(values > 0).sum()}" for values in over_fixed)],
    ]
    return markdown(["threshold", *map(str, thresholds)], rows)


def sweep_at_default():
    """DM Control tasks at the default threshold, beside their fixed lengths."""
    rows = []
    for task, paths in PLAYED.items():
        results = read_all(paths, "sweep.json")
        pooled = threshold_sweep.pool(results)
        fixed = {row["setting"]: row["return"] for row in pooled["rows"] if row["kind"] == "fixed"}
        learned = next(row for row in pooled["rows"] if (row["kind"], row["setting"]) == ("confidence", THRESHOLD))
        gain = next(gain for gain in pooled["gains"] if gain["threshold"] == THRESHOLD)
        over_fixed = [threshold_sweep.over_fixed(result, THRESHOLD) for result in results]
        differences = [listed(gain["gains"]), listed(over_fixed)]
        returns = [listed([value]) for value in (learned["return"], *(fixed[length] for length in (1, 2, 3, 5)))]
        rows.append([task, f"{learned['k']:.1f}", returns[0], *differences, *returns[1:]])
    names = ["$k$", "return", "over shuffled", "over fixed, same looks", "fixed 1", "2", "3", "5"]
    return markdown(["", *names], rows)


def sweep_by_threshold():
    """Mean return over that of a fixed length at the same looks per step, by threshold."""
    thresholds, rows = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), []
    for task, paths in PLAYED.items():
        results = read_all(paths, "sweep.json")
        means = [np.mean([threshold_sweep.over_fixed(result, at) for result in results]) for at in thresholds]
        rows.append([task, *(listed([mean]) for mean in means)])
    return markdown(["threshold", *map(str, thresholds)], rows)


def calibration_groups():
    """Mean realised advantage, and rank correlations of ten groups of pairs."""
    return _calibration(
        ["change", "with the prediction", "with the confidence"],
        lambda report: report["realised"]["mean"],
        lambda report: report["predicted"]["spearman_groups"],
        lambda report: report["confidence"]["spearman_groups"],
    )


def calibration_auc():
    """AUC for the sign of the realised advantage."""
    return _calibration(
        ["of the prediction", "of the confidence", "other repeat"],
        lambda report: report["predicted"]["auc"],
        lambda report: report["confidence"]["auc"],
        calibration.other_repeat_auc,
    )


def _calibration(names, *columns):
    rows = []
    for task, paths in PLAYED.items():
        reports = read_all(paths, "calibration.json")
        rows.append([task, *(listed([column(report) for report in reports], digits=2) for column in columns)])
    return markdown(["", *names], rows)


def defaults():
    """One default changed per row: mean and last return of two tasks."""
    settings = {
        "the default agent": None,
        "`--batch_size 256`": "batch256",
        "`--target_entropy` $-A/2$": "entropy_half",
        "`--no-critic_layer_norm`": "no_layer_norm",
        "`--chunk_size 3`": "chunk3",
        "`--chunk_size 8`": "chunk8",
        "noise correlation 0": "noise0",
        "noise correlation 0.8, not learned": "noise0.8",
        "`--confidence_margin 0.5`": "margin0.5",
        "`--confidence_margin 2`": "margin2",
    }
    rows = []
    for name, setting in settings.items():
        rows.append([name])
        for task, end in (("cheetah_run", 40000), ("ball_in_cup_catch", 20000)):
            if setting:
                paths = [f"{DEFAULTS}/{task}-{setting}-s{seed}" for seed in range(1, 6)]
            else:  # seeds 4 and 5 were not in the first runs
                paths = [f"{FIRST}/{task}-adaptive-s{seed}" for seed in SEEDS]
                paths += [f"{DEFAULTS}/{task}-default-s{seed}" for seed in (4, 5)]
            returns = [evaluations(path, end) for path in paths if (ROOT / path).exists()]
            rows[-1] += [listed([np.mean(values) for values in returns]), listed([values[-1] for values in returns])]
    names = ["cheetah_run: mean", "after 40,000", "ball_in_cup_catch: mean", "after 20,000"]
    return markdown(["", *names], rows)


def suite100k():
    """The runs on the development tasks that have finished, by arm and seed."""
    arms, rows = paired_arms.finished_arms(ROOT), []
    for task in DEVELOPMENT:
        last = [
            [runs[task, seed][-1] if (task, seed) in runs else None for seed in paired_arms.SEEDS]
            for runs in arms.values()
        ]
        rows.append([task, *map(listed, last)])
    return markdown(["", *arms], rows)


def suite_rule():
    """What the rule of the development tasks says about each arm so far."""
    arms, biases, rows = paired_arms.finished_arms(ROOT), paired_arms.measured_biases(ROOT), []
    for new, old in (
        ("normalised", "default"),
        ("best", "normalised"),
        ("best", "default"),
        ("best", "plain"),
        ("best", "executed"),
        ("executed", "best"),
        ("executed", "default"),
    ):
        result = paired_arms.difference(arms[new], arms[old])
        sizes = [{run: abs(of["q_5"]) for run, of in biases.get(arm, {}).items()} for arm in (new, old)]
        bias, num_biases = paired_difference(*sizes), len(sizes[0].keys() & sizes[1].keys())
        rows.append(
            [
                f"{new} over {old}",
                str(len(result.pairs)),
                f"{listed([result.mean])} ± {result.error:.0f}",
                "{:.0f} ± {:.0f}".format(*result.with_fewer_steps),
                listed([result.mean_of_all]),
                f"{bias[0]:.2f} ± {bias[1]:.2f} ({num_biases} pairs)" if bias else "-",
                ", ".join(result.behind) or "none",
                {None: "between readings", True: "yes", False: "no"}[result.wins()],
            ]
        )
    names = ["", "pairs", "after 100,000 steps", f"first arm after {paired_arms.FEWER_STEPS:,}"]
    names += ["mean of ten evaluations", "bias of $Q_5$", "tasks far behind", "ahead by the rule"]
    return markdown(names, rows)


def suite_bias():
    """Bias of the values after 100,000 steps: means over the runs, and Q_5 of each."""
    rows = []
    for arm, biases in paired_arms.measured_biases(ROOT).items():
        means = (np.mean([of[value] for of in biases.values()]) for value in ("q_1", "q_3", "q_5", "v"))
        q_5 = {run: of["q_5"] for run, of in biases.items()}
        by_task = (listed([q_5.get((task, seed)) for seed in paired_arms.SEEDS], digits=1) for task in TASKS[:2])
        rows.append([f"`{arm}`", *(listed([mean], digits=2) for mean in means), *by_task])
    return markdown(["", "bias of $Q_1$", "$Q_3$", "$Q_5$", "$V$", *(f"$Q_5$, {task}" for task in TASKS[:2])], rows)


def beside_best():
    """One flag of `best` changed per row, first seed; for reading only."""

    def first_seed(runs):
        return {(task, seed): values for (task, seed), values in runs.items() if seed == paired_arms.SEEDS[0]}

    best = first_seed(paired_arms.finished_arms(ROOT)["best"])
    others = paired_arms.finished_arms(ROOT, paired_arms.BESIDE)
    last = paired_arms.last_by_task(best)
    rows = [["`best`", *(listed(last[task]) for task in DEVELOPMENT), "-"]]
    for name, row in (
        ("`--batch_size 256`", "batch256"),
        ("`--updates_per_step 2`", "two_updates"),
        ("`--actor_update_frequency 2`", "actor_every_second"),
        ("`--hidden_dim 512`", "units512"),
    ):
        runs = first_seed(others.get(row, {}))
        last = paired_arms.last_by_task(runs)
        over = "-"
        if len(runs) > 1:
            result = paired_arms.difference(runs, best)
            over = f"{listed([result.mean])} ± {result.error:.0f}"
        rows.append([name, *(listed(last.get(task, [])) or "-" for task in DEVELOPMENT), over])
    return markdown(["", *DEVELOPMENT, "over `best`"], rows)


def first_reward_times():
    """When runs first find reward where it is rare, in thousands of steps, and the test of each idea."""
    arms, rows = first_reward.found_times(ROOT), []
    for arm in ("default", "normalised", "plain", "executed", "best", "cool", "raw"):
        if arm not in arms:
            continue
        runs = sorted(arms[arm].items())
        times = [[time for (of, _), time in runs if of == task] for task in first_reward.TASKS]
        against, result = "-", ["-", "-", "-"]
        if arm in first_reward.IDEAS:
            against, _ = first_reward.IDEAS[arm]
            if test := first_reward.sooner(arms, arm):
                result = [f"{test[0]:.2f}", f"{test[1]:.2g}", "yes" if first_reward.is_ahead(*test) else "no"]
        rows.append([arm, *map(_thousands, times), against, *result])
    return markdown(["", *first_reward.TASKS, "sooner than", "$z$", "$p$", "ahead by the rule"], rows)


def _thousands(times):
    return ", ".join(f"{step / 1000:.0f}" if found else "never" for step, found in times) or "-"


def anchors():
    """Published agents and our arms on the development tasks: mean return after 100,000 steps.

    At most one update per step first, then in the order of the mean over tasks, which needs seven of the eight.
    """
    rows = []
    for agent in sorted(read_agents(ROOT), key=lambda agent: (not agent.at_most_one_update(), -(agent.mean() or 0))):
        name = f"**{agent.name}**" if agent.is_ours else agent.name
        cost = "-" if agent.multiply_adds is None else f"{agent.multiply_adds / 1e6:,.0f}"
        by_task = [listed([agent.returns.get(task)]) for task in DEVELOPMENT]
        rows.append([name, agent.updates, cost, *by_task, _mean(agent)])
    names = ["", "updates per step", "10^6 multiply-adds per step", *DEVELOPMENT, "mean"]
    return markdown(names, rows)


def best_of_class():
    """By task: the default agent, and the published agent with at most one update per step that returns most."""
    agents = read_agents(ROOT)
    (ours,) = (agent for agent in agents if agent.name == LABELS["best"])
    others = [agent for agent in agents if not agent.is_ours and agent.at_most_one_update()]
    rows = []
    for task in DEVELOPMENT:
        best = max((agent for agent in others if task in agent.returns), key=lambda agent: agent.returns[task])
        mine, theirs = (round(agent.returns[task]) for agent in (ours, best))
        rows.append([task, *map(str, (mine, theirs, mine - theirs)), best.name])
    return markdown(["", "ours", "best published", "ours over it", "that agent"], rows)


def _mean(agent):
    return listed([agent.mean()]) + (" (7 tasks)" if len(agent.returns) == 7 else "")


def beside_published():
    """Each seed of the default agent and of plain SAC, beside the means of a few published agents."""
    shown = ("DR.Q", "SimBa UTD2", "SAC(256,MLP)", "BRO UTD10")
    agents = {agent.name: agent for agent in read_agents(ROOT)}
    arms, rows = paired_arms.finished_arms(ROOT), []
    ours = {LABELS[arm]: paired_arms.last_by_task(arms[arm]) for arm in ("best", "plain")}
    for task in DEVELOPMENT:
        published = (listed([agents[name].returns.get(task)]) for name in shown)
        rows.append([task, *(listed(runs[task]) for runs in ours.values()), *published])
    columns = [agents[name] for name in (*ours, *shown)]
    rows.append(["mean", *map(_mean, columns)])
    rows.append(["updates per step", *(agent.updates for agent in columns)])
    return markdown(["", *ours, *shown], rows)


def factorial_effects():
    """Main effects of eight settings, and the number of runs."""
    cells = factorial.finished_cells(ROOT)
    effects, rows = factorial.effects(cells), []
    tasks = list(effects[0].by_task)
    for effect in effects:
        by_task = [listed([effect.by_task[task]]) for task in tasks]
        rows.append(
            [
                effect.name,
                f"{listed([effect.value])} ± {effect.error:.0f}",
                *by_task,
                "yes" if effect.enters() else "no",
            ]
        )
    return markdown([f"{len(cells)} runs", "effect ± standard error", *tasks, "enters"], rows)


def long_prefixes_rule():
    """Bias of the values and return, by change of the update, over the runs that have finished."""
    plain, *changes = long_prefixes.outcomes(ROOT)
    rows = []
    for outcome in (plain, *changes):
        gain, passes = (None, None) if outcome is plain else (outcome.gain(plain), outcome.passes(plain))
        bias = [listed([outcome.mean_bias(value)], digits=2) for value in ("q_1", "q_3", "q_5", "v")]
        scores = [
            listed([outcome.scores.get(run) for run in long_prefixes.RUNS if run[0] == task]) for task in TASKS[:2]
        ]
        over_plain = f"{gain[0]:.0f} ± {gain[1]:.0f}" if gain else "-"
        name = "unchanged" if outcome is plain else outcome.name
        rows.append([f"`{name}`", *bias, *scores, over_plain, {None: "-", True: "yes", False: "no"}[passes]])
    names = ["bias of $Q_1$", "$Q_3$", "$Q_5$", "$V$", *TASKS[:2], "over `unchanged`", "passes"]
    return markdown(["", *names], rows)


TABLES = {
    "first_evidence": first_evidence,
    "replan": replan,
    "known_truth": known_truth,
    "sweep_at_default": sweep_at_default,
    "sweep_by_threshold": sweep_by_threshold,
    "calibration_groups": calibration_groups,
    "calibration_auc": calibration_auc,
    "defaults": defaults,
    "suite100k": suite100k,
    "suite_rule": suite_rule,
    "suite_bias": suite_bias,
    "beside_best": beside_best,
    "first_reward": first_reward_times,
    "long_prefixes_rule": long_prefixes_rule,
    "factorial_effects": factorial_effects,
    "anchors": anchors,
    "best_of_class": best_of_class,
    "beside_published": beside_published,
}


def read_all(paths, name):
    """A file of evaluate.py of each run."""
    return [json.loads((ROOT / path / name).read_text(encoding="utf-8")) for path in paths]


def evaluations(path, end):
    """Mean return of each evaluation of a run up to step `end`, which is one of them."""
    path = str(ROOT / path / "eval.csv")
    rows = read_rows(path, ("step", "return"))
    steps, returns = numbers(path, rows, "step"), numbers(path, rows, "return")
    if end not in steps:
        raise ValueError(f"{path} has no evaluation after {end} steps")
    return returns[steps <= end]


def last_returns(task, setting):
    """Return after 50,000 steps of each seed of a setting of `FIRST`, as text."""
    return listed([evaluations(f"{FIRST}/{task}-{setting}-s{seed}", 50000)[-1] for seed in SEEDS])


def listed(values, digits=0):
    """One number per seed, "-" where there is none; no minus before 0."""
    return ", ".join("-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}" for value in values)


def p_value(p):
    """One digit: 0.007, 3e-6."""
    return re.sub("e-0", "e-", f"{p:.1g}")


def markdown(names, rows):
    """A table."""
    lines = ["| " + " | ".join(row) + " |" for row in (names, *rows)]
    lines.insert(1, "|" + "---|" * len(names))
    return "\n".join(lines).replace("|  |", "| |")  # of a column without a name


def updated(text):
    """The text of a page with all its tables computed again.

    Raises:
        KeyError: a marker names a table that is not in `TABLES`.
    """
    pattern = re.compile(r"(<!-- table: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n", text)


def main():
    """Write all pages."""
    for page in PAGES:
        path = ROOT / page
        write_atomically(str(path), updated(path.read_text(encoding="utf-8")).encode())
        print(f"wrote {page}")


if __name__ == "__main__":
    main()
