"""The two kinds of failure a user can meet, each with its exit code.

Every message is one line that says what is wrong, where, and what to do about it.
"""


class TaoembError(Exception):
    """A job failed while running (exit code 1)."""

    exit_code = 1


class InputError(TaoembError):
    """Bad usage or bad input: the user can mend it (exit code 2)."""

    exit_code = 2
