"""Adapters from public and plain layouts to the dataset contract; all stream in batches and write whole folders."""
