"""Adapters from public and plain layouts to the dataset contract; all stream in batches and write whole folders."""

import csv

csv.field_size_limit(2**31 - 1)  # descriptions of any length; Python's own limit is 128 KiB a cell
