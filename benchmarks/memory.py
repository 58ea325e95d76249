"""The most memory that this process has held, between two points in time (Linux)."""

from pathlib import Path

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> None:
    """Let the peak begin anew at what is held now (proc(5): clear_refs)."""
    _CLEAR.write_text("5")


def held() -> float:
    """Resident memory now, GB."""
    return _status("VmRSS")


def peak() -> float:
    """Most resident memory since :func:`forget_peak`, GB."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e9
