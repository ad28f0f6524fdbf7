"""Is my backward pass right, and if not, which step is wrong?

Each FILE, a Python file or a notebook, defines `backward(params, X, Y)` with params the tuple
(W1, b1, W2, b2, ...) in NumPy and returns the derivatives by name, or as a tuple in that order. It
may return steps too: dZ2, dA1, Z1, ... Of `experiments/students/`, `backward.py` is a template with
a mistake, `blank.py` one to be filled in; --template prints a blank one for --sizes.

One file is answered with its certificate, several with one line each. The network is that of the
lecture, (2, 4, 3) on the spiral, or what --sizes, --hidden and --loss say. A file runs in a process
of its own that knows nothing of the right answer; a crash or an endless loop is an answer like any
other. It runs with your rights: read it first if you do not know its author. The exit status is 0
when every file has its answer, right or wrong; with --strict it is 1 unless all are right.

For each array of yours, c, against the right one, r: difference is max|c - r| / max|r|, tolerance
what rounding explains of that. --verbose adds cosine (of the angle between c and r: 1 for a
multiple), norm ratio |c| / |r|, sign flips (entries of opposite sign), ulp (max|c - r| in units of
the last place of r's largest entry), at kinks (entries for which two derivatives are right) and
second route (how far c is from a numeric derivative of J).
"""
