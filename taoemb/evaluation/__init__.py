"""Proves offline how good a release is: rankings, metrics with intervals, a report and the gate."""
