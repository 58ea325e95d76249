"""A package of its own: a dependency (ppi-python) installs one named `tests` too, which would win over this folder."""
