"""Confidence sequences for what has no bounds (latency): valid for large samples, at all of them at once.

A sum of independent deviations comes close to a Brownian motion with the same variance, uniformly in time (strong
approximation; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic
confidence sequences", Annals of Statistics 52, 2024, theorem 2.2 and its Lyapunov form for means that move). The
boundary is the one-sided normal mixture (Robbins 1970; Howard et al. 2021, proposition 6).
"""

import numpy as np
from scipy.special import log_ndtr

BEST_AT = 250.0
"""Variance, in units of one candidate's value, at which the mixture is tightest."""


def normal_mixture(variance: np.ndarray, alpha: float, rho: float) -> np.ndarray:
    """One-sided boundary that a standard Brownian motion at times `variance` ever passes with probability alpha.

    The solution s of 2 sqrt(rho / (v + rho)) exp(s^2 / (2 (v + rho))) Phi(s / sqrt(v + rho)) = 1/alpha, by Newton's
    method from the right (the logarithm of the left side is convex).
    """
    target = -np.log(alpha) + 0.5 * np.log((variance + rho) / rho)
    x = np.sqrt(2 * target)
    for _ in range(30):
        log_phi = log_ndtr(x)
        slope = x + np.exp(-0.5 * x**2 - 0.5 * np.log(2 * np.pi) - log_phi)
        step = (np.log(2) + 0.5 * x**2 + log_phi - target) / slope
        x = np.maximum(x - step, 0)
        if not len(x) or np.max(np.abs(step)) < 1e-12:
            break
    return np.sqrt(variance + rho) * x


def brownian_radius(variance: np.ndarray, clock: np.ndarray, alpha: float) -> np.ndarray:
    """How far a sum with this estimated variance strays to one side; infinite where no variance was seen.

    `clock`: the variance in units of one value's, known from the design alone; it sets where the boundary is tightest.
    """
    seen = (variance > 0) & (clock > 0)
    unit = np.where(seen, variance / np.where(seen, clock, 1.0), 1.0)
    radius = np.sqrt(unit) * normal_mixture(np.where(seen, clock, 1.0), alpha, BEST_AT / 8)
    return np.where(seen, radius, np.inf)
