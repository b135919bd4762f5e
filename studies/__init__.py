"""What computes the tables and figures of this package's own docs from results/. A fork can do without this folder.

factorial.py      main effects of the factorial in results/suite100k_dev
paired_arms.py    which arm of results/suite100k_dev becomes the default
first_reward.py   log-rank test of results/rare_reward
long_prefixes.py  which change of long prefixes is kept, by results/long_prefixes
agents_100k.py    published agents and the arms of suite100k_dev; multiply_adds.py: what they cost
scripts, python -m studies.NAME: result_tables, suite_figures, chunk_figure, gusty_halves
"""
