"""What happens to a run that is taken up again, by what came between: the table of docs/training.md, held by
test_awkward_resume.py cell by cell."""

OBJECTIVES = ("sft", "grpo", "hard_negatives", "live_infonce")

EQUAL = "equal"
"""Losses and release of the unbroken run, bit for bit."""
ROUNDED = "equal up to rounding"
"""Its curve; sums are taken in another order."""
REFUSED = "refused"
"""One line, exit code 2, and the folder is left as it is."""
FINISHED = "finished before"
"""One line, exit code 0; nothing is trained."""
NO_JUDGE = "–"

ROWS: dict[str, str | dict[str, str]] = {
    "killed (SIGKILL)": EQUAL,
    "stopped (SIGTERM, Ctrl-C) between two checkpoints": EQUAL,
    "data, release and folder moved": EQUAL,
    "judge at another address; other memory, trackers, pace (the list below)": ROUNDED,
    "other number of ranks, without ZeRO": ROUNDED,
    "other number of ranks, with ZeRO": REFUSED,
    "other ZeRO stage": REFUSED,
    "other judge": {objective: REFUSED if objective == "grpo" else NO_JUDGE for objective in OBJECTIVES},
    "other data (a changed row)": REFUSED,
    "other settings": REFUSED,
    "more steps, constant learning rate without warm-up": {
        "sft": EQUAL,
        "grpo": "equal with `staleness: 0`, else refused",
        "hard_negatives": EQUAL,
        "live_infonce": "equal with `towers: query`, else refused",
    },
    "more steps, any other schedule": REFUSED,
    "finished, same command": FINISHED,
    "finished, other data, judge or settings": REFUSED,
}


def cell(row: str, objective: str) -> str:
    found = ROWS[row]
    return found if isinstance(found, str) else found[objective]
