"""Processes: signals and threads of a command, and the runs of benchmark.py.

process.py      stop signals and number of threads of this process
run.py          one run of a benchmark
scheduler.py    runs the unfinished runs, several at a time
local.py, ray_cluster.py    execute runs on this machine, or on a Ray cluster
results.py      the tables of finished runs
"""
