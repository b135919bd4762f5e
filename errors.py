"""How a run is refused or ends early: with one sentence."""


class Refusal(Exception):
    """The run does not start: a mistake in the flags or in what they point to. Exit status 2."""


class Failure(Exception):
    """The run ends early. Exit status 1."""
