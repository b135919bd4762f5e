"""How figures look and are written."""

from storage.files import writing


def save_figure(figure, output):
    """A matplotlib Figure as output.png and output.svg, in the same bytes whenever it is drawn.

    Raises:
        RunError: they cannot be written.
    """
    from matplotlib import rc_context

    # By default an SVG file holds the time, and names that are drawn at random.
    for path, metadata in ((f"{output}.png", {}), (f"{output}.svg", {"Date": None})):
        with writing(path), rc_context({"svg.hashsalt": "figure"}):
            figure.savefig(path, dpi=150, metadata=metadata)
