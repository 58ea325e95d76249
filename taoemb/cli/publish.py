"""`taoemb publish`."""


def publish() -> None:
    """Not built yet."""
