"""From served pages to a measurement: observations, grading, metrics, estimates."""
