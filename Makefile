# make train ARGS="--env cheetah_run"   sets up .venv and trains
# make test                             sets up .venv and runs all tests
# make test-fast                        the unit tests alone
# make check                            lint and format, without changing anything
# make faults                           kills one run many times and compares it with an undisturbed one
# make figures                          draws figures/ again from results/
# make tables                           computes the tables of README.md and docs/results.md again from results/
# make bench                            times the learner, against other packages, and the parts of a training step

ARGS ?= --env cheetah_run
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
	$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))

.PHONY: train test test-fast check faults figures tables bench clean

train: .venv/installed
	.venv/bin/python train.py $(ARGS)

# In the order of the files: by default those with few tests, which take longest, would come last.
test: .venv/installed .venv/installed-ray
	.venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: .venv/installed
	.venv/bin/python -m pytest -n auto tests/unit

check: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

faults: .venv/installed
	.venv/bin/python -m pytest -m faults

bench: .venv/installed .venv-bench/installed
	.venv/bin/python -m profiling.learner
	.venv/bin/python -m profiling.loop

FIRST = results/first_evidence
PLOT = .venv/bin/python plot.py --replace

figures: .venv/installed
	$(PLOT) $(FIRST)/eval.csv --output figures/curves --reference results/reference/pytorch_sac_curves.csv \
		--levels results/reference/d4pg_1e8_steps.csv
	$(PLOT) results/known_truth/*/sweep.json --output figures/sweep-gusty
	$(PLOT) results/pushed/*/sweep.json --output figures/sweep-pushed
	for task in cheetah_run walker_run ball_in_cup_catch cartpole_swingup_sparse; do \
		$(PLOT) $(FIRST)/$$task-adaptive-*/sweep.json --output figures/sweep-$$task || exit; done
	$(PLOT) $(FIRST)/walker_run-adaptive-s1/calibration.json --output figures/calibration-walker_run
	.venv/bin/python -m studies.chunk_figure
	.venv/bin/python -m studies.suite_figures

tables: .venv/installed
	.venv/bin/python -m studies.result_tables

.venv/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet -r requirements.txt
	.venv/bin/pip install --quiet --no-deps $$(grep -o '^dm_control==[0-9.]*' requirements.txt)
	@touch $@

# Not for every version of Python there is a Ray; without it its tests are skipped.
.venv/installed-ray: requirements-ray.txt .venv/installed
	@.venv/bin/pip install --quiet -r requirements-ray.txt && touch $@ || echo "make: no Ray here: its tests are skipped" >&2

.venv-bench/installed: requirements-bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet -r requirements-bench.txt
	@touch $@

clean:
	rm -rf .venv .venv-bench
