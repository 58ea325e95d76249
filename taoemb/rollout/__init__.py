"""Rolling a release out: traffic steps, online measurement, statistics that survive peeking, the verdict."""
