"""From runs to numbers: which runs belong together, their means and intervals, and comparisons between them.

Pure functions on arrays and frames, in this order: `bootstrap` (intervals), `cells` (means over seeds, the choice of
learning rates), `grid` (what a sweep varied, what of it is missing), `selection` (which runs a figure shows), `compare`
(curves of accuracy by size against each other); `text` writes their results as words. The room may import
`analysis.records`, never a drawing. A newcomer reads `cells` first: a cell is what every later number is about.
"""
