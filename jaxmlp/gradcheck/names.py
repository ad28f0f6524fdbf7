"""The names that people give to derivatives, read as those of E3: dW1, db1, dZ2, dA1, Z1, A1."""

import re
from collections.abc import Iterable

FIELDS = {
    "w": "W", "weight": "W", "weights": "W", "b": "b", "bias": "b", "biases": "b",
    "slope": "slope", "alpha": "slope", "z": "Z", "a": "A", "h": "A",
}  # fmt: skip
VALUES = {"j", "loss", "cost", "value"}

_DERIVATIVE = r"(?P<pre>d[jle]d|d(?:loss|cost)d|gradients?(?:of)?|grads?|nabla|delta|d|g)?"
_FIELD = r"(?P<field>weights?|bias(?:es)?|slope|alpha|[wbzah])"
_PATTERN = re.compile(rf"{_DERIVATIVE}{_FIELD}(?P<l>\d+)(?P<post>gradients?|grads?)?")


def read_name(name: str) -> str:
    """Return "dW1" for "dw1", "grad_W1", "dJ/dW_1" or "W1_grad", "dZ2" for "delta2", "J" for
    "loss"; what cannot be read stays as it is.

    Example:
      >>> [read_name(name) for name in ("grad_W1", "dL_db2", "delta2", "A1", "loss", "cache")]
      ['dW1', 'db2', 'dZ2', 'A1', 'J', 'cache']
    """
    plain = re.sub(r"[\s_\-\[\]()/{}.]", "", name).lower().replace("∂", "d").replace("δ", "delta")
    if plain in VALUES:
        return "J"
    if delta := re.fullmatch(r"(?:delta|error)(\d+)", plain):
        return f"dZ{delta[1]}"
    match = _PATTERN.fullmatch(plain)
    if match is None:
        return name
    is_derivative = match["pre"] or match["post"]
    return f"{'d' if is_derivative else ''}{FIELDS[match['field']]}{int(match['l'])}"


def counted_from_1(names: Iterable[str], L: int) -> dict[str, str]:
    """Return every name as it is to be read, layers counted from 1 where they were from 0."""
    read = {name: read_name(name) for name in names}
    weights = {re.sub(r"^d", "", new) for new in read.values()}
    if not {"W0", "b0"} & weights or {f"W{L}", f"b{L}"} & weights:
        return read
    return {old: re.sub(r"\d+$", lambda l: str(int(l[0]) + 1), new) for old, new in read.items()}
