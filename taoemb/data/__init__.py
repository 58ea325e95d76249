"""Datasets on disk: schemas, readers, checks, import adapters, splits, generated shops and queries."""
