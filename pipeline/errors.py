"""Exceptions that a person, not a programmer, is meant to read."""


class UserError(Exception):
    """What the user gave cannot be used; the message says what, and what is allowed instead.

    The command line prints it without a traceback and exits with status 2.
    """


class RunFailedError(Exception):
    """A node of a run failed; the message says which, why, and where the traceback is.

    The command line prints it without a traceback and exits with status 1.
    """
