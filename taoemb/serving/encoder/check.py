"""A backend must agree with torch before it serves."""

import numpy as np

from taoemb.encoder.agreement import CHECK_TEXTS, lowest_cosine
from taoemb.errors import InputError

__all__ = ["CHECK_TEXTS", "check_agreement"]


def check_agreement(reference_ND: np.ndarray, vectors_ND: np.ndarray, least: float, what: str) -> float:
    """The lowest cosine on `CHECK_TEXTS`. Raises InputError when it is below `least`; `what` names the backend."""
    cosine, text = lowest_cosine(reference_ND, vectors_ND, CHECK_TEXTS)
    if cosine < least:
        raise InputError(
            f"encoder_server.backend {what}: cosine {cosine:.4f} with torch's vectors on {text[:40]!r} is below "
            f"encoder_server.min_cosine {least:g}; choose another precision or backend"
        )
    return cosine
