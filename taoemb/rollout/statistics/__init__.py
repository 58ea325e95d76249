"""Statistics that stay valid however often somebody looks.

Read in this order: `sequence` (what every function returns), `bounded` (the one inequality that decides),
`asymptotic` (for metrics without bounds), `adjust` (less noise from what was known before), `effect` (the
difference of two arms), `missing` (what if some values are not known?), `sample_ratio` (did the split work?),
`correction` (human grades correct the judge), `multiplicity` (which interval gets which part of the plan's error
probabilities), `running` (the same as it grows). docs/verdicts.md explains the same in words.
"""
