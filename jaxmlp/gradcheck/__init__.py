"""Is a gradient right, and if not, what is wrong with it?

`check_grads` asks a candidate and compares. What it gave (`answers`) is judged, array by array
(`examination`, `judge`), against autodiff in float64 (`reference`) and a numeric derivative
(`numeric`), as exactly as its dtype can tell (`precision`). `tape` is a backward pass in NumPy that
knows what rounding and kinks do (`rounding`) and what a classic mistake would give (`mistakes`,
`edits`, `steps`, `forwards`). `search` finds the mistakes that were made; `explanation` puts them
into words and `certificate` prints them.
"""

from jaxmlp.gradcheck.certificate import Certificate
from jaxmlp.gradcheck.check import check_grads
from jaxmlp.gradcheck.judge import Row
from jaxmlp.gradcheck.mistakes import Diagnosis

__all__ = ["Certificate", "Diagnosis", "Row", "check_grads"]
