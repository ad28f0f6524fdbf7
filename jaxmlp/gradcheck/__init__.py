"""Is a gradient right, and if not, what is wrong with it?

`check_grads` asks a candidate and compares: `answers` reads what it returned, `truth` holds the
references (`references`: autodiff in float64, `numeric`: the second route), `tape` is a backward
pass in NumPy that knows what rounding and kinks do and, with `mistakes`, what a classic mistake
would give; `diagnosis` finds the one that was made; `certificate` is the report.
"""

from jaxmlp.gradcheck.certificate import Certificate, Row
from jaxmlp.gradcheck.check import check_grads
from jaxmlp.gradcheck.search import Diagnosis

__all__ = ["Certificate", "Diagnosis", "Row", "check_grads"]
