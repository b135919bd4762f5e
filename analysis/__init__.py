"""Analysis of trained runs.

saved_run.py        a run directory as an agent that plays: load_run
curves.py           learning curves, for plot.py
threshold_sweep.py  return against executed length, for evaluate.py --sweep
calibration.py      realised against predicted advantages, for evaluate.py --calibration
bias.py             realised soft returns against predicted values, for evaluate.py --bias
branching.py        states of episodes, and branches from them
evaluation_file.py  the files of evaluate.py
factorial.py        main effects of the factorial in results/suite100k_dev
first_reward.py     log-rank test of results/rare_reward
paired_arms.py      which arm of results/suite100k_dev becomes the default
long_prefixes.py    which change of long prefixes is kept, by results/long_prefixes
agents_100k.py      published agents and those arms; multiply_adds.py: what they cost
statistics.py       means and intervals
style.py            how figures are written
scripts, python -m analysis.NAME: tensorboard_pages, gusty_halves, result_tables, chunk_figure, suite_figures
"""
