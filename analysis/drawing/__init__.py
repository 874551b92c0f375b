"""How figures look, whatever they show: colours and sizes, panels with their labels, lines with intervals, curves.

Functions take a frame of points that are ready to be drawn, and return a figure; they know no paper and no records.
The room imports nothing else of `analysis`. A newcomer reads `style` first (the fixed colour of each method), then
`lines`, by which most figures are drawn.

Figures are the same whatever the user has set for Matplotlib (`style.applied`), and that stays as it is.
"""
