"""Simulated shoppers and encoders whose truth is known, on the real gateway."""
