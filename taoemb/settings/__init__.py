"""The tree of settings: a section a part of the system, each setting with its unit and its reason.

Read it through `taoemb.config`, which loads it and re-exports every section.
"""
