"""One run of a benchmark."""

from dataclasses import dataclass

from config import Config
from storage.run_dir import find_run, finished_steps


@dataclass(eq=False)
class Run:
    """One run of a benchmark.

    Args:
        env, setting, seed: task, name of the setting, seed.
        argv: command line of train.py, a tuple.
        config: `Config` of the same flags.
    """

    env: str
    setting: str
    seed: int
    argv: tuple
    config: Config
    _directory: str | None = None

    @property
    def name(self):
        """Name of the run in status lines."""
        return f"{self.env} {self.setting} seed {self.seed}"

    @property
    def num_steps(self):
        """Steps of the whole run."""
        return self.config.num_train_steps

    def directory(self):
        """The run directory, or None if the run has not started."""
        self._directory = self._directory or find_run(self.config)
        return self._directory

    def is_finished(self):
        """Whether all steps are done.

        Raises:
            UsageError: args.json is damaged.
        """
        directory = self.directory()
        return directory is not None and finished_steps(directory) >= self.num_steps
