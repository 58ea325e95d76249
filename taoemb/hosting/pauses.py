"""What in Python itself stops a server for milliseconds, and how that is kept short."""

import gc


def spare_what_stays() -> None:
    """Call it once, when a server is about to answer: later garbage collections skip what is there by then.

    A full collection walks through every object of the process, also those that imports and start-up made and that
    never go. With FastAPI, SQLAlchemy or torch imported that takes tens of milliseconds, in which nothing is answered.
    """
    gc.collect()
    gc.freeze()
