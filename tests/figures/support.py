"""Looking at a figure."""


def named(figure, name):
    """The trace with this name."""
    return next(trace for trace in figure.data if trace.name == name)
