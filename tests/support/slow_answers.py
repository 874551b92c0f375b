"""An expression that cannot be judged in any time that a job has: minutes of work, which no bound of size forbids."""

from __future__ import annotations

ENDLESS = " + ".join(rf"\sum_{{n=1}}^{{\infty}} \frac{{\sin({k}n)}}{{n}}" for k in range(2, 20))
