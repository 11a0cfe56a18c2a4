"""What goes wrong with a data set."""


class IngestError(ValueError):
    """The data set, or the folder to write to, cannot be used; the message says why."""
