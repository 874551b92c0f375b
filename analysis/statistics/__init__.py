"""From runs to numbers: which runs belong together, their means and intervals, and comparisons between them.

Pure functions on arrays and frames: `crossed` (the model of the data: draws of P, data seeds and problems; intervals),
`bootstrap` (the same by resampling), `measured` (from runs to what these take), `cells` (means), `rates` (the choice of
learning rates), `grid` (what a sweep varied, what of it is missing), `selection` (which runs a figure shows), `compare`
(curves of accuracy by size against each other); `text` writes their results as words. `coverage` is a command that
simulates how often intervals hold the truth. The room may import `analysis.records`, never a drawing. A newcomer reads
`crossed` first: docs/statistics.md has it in words.
"""
