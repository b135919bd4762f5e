"""The files of evaluate.py: their names, and its JSON files, some of which plot.py draws."""

import json

from errors import UsageError

ENDINGS = {  # what evaluate.py writes, by its mode
    "episodes": (".json",),
    "video": (".json", ".mp4"),
    "sweep": (".json", ".png", ".svg"),
    "calibration": (".json", ".csv", ".png", ".svg"),
    "bias": (".json", ".csv"),
}
NAMES = {  # of these files, by the mode
    "episodes": "evaluation",
    "video": "evaluation-video",
    "sweep": "sweep",
    "calibration": "calibration",
    "bias": "bias",
}


def draw(paths):
    """The figure of a sweep or a calibration, or of the sweeps of several runs.

    Args:
        paths: of JSON files of evaluate.py.

    Returns:
        (figure, text): a matplotlib Figure, and the table of gains of several sweeps; empty for one file.

    Raises:
        UsageError: one is not such a file, or they are not all sweeps alike.
    """
    results = [_read(path) for path in paths]
    figures = [_figure(path, result) for path, result in zip(paths, results, strict=True)]
    if len(results) == 1:
        return figures[0], ""
    if not all("rows" in result for result in results):
        raise UsageError("one JSON file of a calibration at a time")
    from analysis import threshold_sweep

    try:
        pooled = threshold_sweep.pool(results)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{', '.join(paths)} are not JSON files of evaluate.py --sweep") from error
    return threshold_sweep.draw(pooled), threshold_sweep.gains_table(pooled)


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file, parse_constant=_refuse)
        if not isinstance(result["title"], str):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _wrong_file(path) from error
    return result


def _figure(path, result):
    from analysis import calibration, threshold_sweep

    try:
        return (threshold_sweep if "rows" in result else calibration).draw(result)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _wrong_file(path) from error


def _wrong_file(path):
    return UsageError(f"{path} is not a JSON file of evaluate.py --sweep or --calibration")


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")
