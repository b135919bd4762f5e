"""How figures are written."""

import io

from storage.files import write_atomically

ENDINGS = (".png", ".svg")


def save_figure(figure, output):
    """A matplotlib Figure as output.png and output.svg, in the same bytes whenever it is drawn.

    Raises:
        RunError: they cannot be written.
    """
    from matplotlib import rc_context

    # By default an SVG file holds the time, and names that are drawn at random.
    for ending, metadata in zip(ENDINGS, ({}, {"Date": None}), strict=True):
        picture = io.BytesIO()
        with rc_context({"svg.hashsalt": "figure"}):
            figure.savefig(picture, format=ending[1:], dpi=150, metadata=metadata)
        write_atomically(f"{output}{ending}", picture.getvalue())
