"""`taoemb search`."""


def search() -> None:
    """Not built yet."""
