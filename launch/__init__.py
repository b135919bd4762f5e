"""Processes: signals and threads of a command, and the runs of benchmark.py.

process.py      stop signals and cores of this process
machine.py      what of a configuration depends on the machine: threads and compilation
run.py          one run of a benchmark
scheduler.py    runs the unfinished runs, several at a time
local.py, ray_cluster.py    execute runs on this machine, or on a Ray cluster
results.py      the tables of finished runs
"""
