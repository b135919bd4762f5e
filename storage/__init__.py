"""Files of a run; each file format has one owner.

run_dir.py      the run directory, its lock, args.json
checkpoint.py   checkpoints/: the state of a run and the rows of its replay buffer
policy.py       policy.pt
plain_data.py   dicts and tensors as bytes; reading them executes no code
files.py        atomic writes; train.csv and eval.csv belong to logger.py
"""
