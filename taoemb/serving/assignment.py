"""Which arm answers a unit (a user or a session): a salted hash, so that no state decides and every replica agrees.

Sticky: a unit's place on the line never changes within a rollout. Monotone: growing the candidate's share moves units
to the candidate and never one away from it.
"""

import hashlib

from taoemb.serving.traffic import ArmName, Traffic

_PLACES = 2**64


def place(salt: str, unit: str) -> float:
    """Where a unit stands on the line [0, 100), uniform over units."""
    digest = hashlib.sha256(f"{len(salt)}:{salt}{unit}".encode()).digest()
    return 100 * int.from_bytes(digest[:8], "big") / _PLACES


def assign(traffic: Traffic, unit: str) -> ArmName:
    """The arm of a unit under this split."""
    if traffic.candidate is None or place(traffic.salt, unit) >= traffic.percent:
        return "control"
    return "candidate"
