"""`taoemb evaluate`."""


def evaluate() -> None:
    """Not built yet."""
