"""Keeps Python's garbage collector from stopping a server for long.

A full collection walks through every object of the process, also those that imports and start-up made and that never
go. With FastAPI, SQLAlchemy or torch imported they are some hundred thousand, and the walk stops all requests for
tens of milliseconds.
"""

import gc


def spare_what_stays() -> None:
    """Call it once, when a server is about to answer: later collections skip what is there by then."""
    gc.collect()
    gc.freeze()
