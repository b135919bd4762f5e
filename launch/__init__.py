"""Processes: what a command sets for its own, and the many runs of benchmark.py.

process.py      signals and numbers of threads of this process
run.py          one run of a benchmark
scheduler.py    starts what is unfinished, some runs at a time
local.py, ray_cluster.py    where runs are executed: here, or on a Ray cluster
results.py      the tables of finished runs
"""
