"""Analysis of trained runs.

saved_run.py          a run directory as an agent that plays: load_run
curves.py             learning curves, for plot.py
threshold_sweep.py    return against executed length, for evaluate.py --sweep
calibration.py        realised against predicted advantages, for evaluate.py --calibration
bias.py               realised soft returns against predicted values, for evaluate.py --bias
branching.py          states of episodes, and branches from them
evaluation_file.py    the files of evaluate.py
statistics.py         means and intervals
style.py              how figures are written
tensorboard_pages.py  screenshots of TensorBoard, a script
"""
