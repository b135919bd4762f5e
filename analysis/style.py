"""Colours of figures, and how figures are written."""

import io

from storage.files import write_atomically

ENDINGS = (".png", ".svg")
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
GREY = "#777777"


def save_figure(figure, output):
    """A matplotlib Figure as output.png and output.svg, in the same bytes whenever it is drawn.

    Raises:
        RunError: they cannot be written.
    """
    from matplotlib import rc_context

    # By default an SVG file holds the time, and names that are drawn at random.
    for ending, metadata in zip(ENDINGS, ({}, {"Date": None}), strict=True):
        image = io.BytesIO()
        with rc_context({"svg.hashsalt": "figure"}):
            figure.savefig(image, format=ending[1:], dpi=150, metadata=metadata)
        write_atomically(f"{output}{ending}", image.getvalue())
