"""Run one file of a student and save its answer. This script does not know the right answer.

It imports nothing of this project: `python child.py FILE TASK OUT LIMIT`.
"""

import json
import pathlib
import signal
import sys
import traceback


def main(file: str, task: str, out: str, limit: str) -> None:
    if hasattr(signal, "setitimer"):  # for a parent that was stopped itself
        signal.setitimer(signal.ITIMER_REAL, float(limit) + 1)
    sys.path[0] = str(pathlib.Path(file).resolve().parent)
    sys.argv = [file]
    try:
        answer = answered(file, task)
    except Exception as error:
        keep(out, {"crash": words(file, error)}, [])
        return
    arrays: list = []
    keep(out, {"answer": structure(answer, arrays)}, arrays)


def answered(file: str, task: str):
    import numpy as np

    with np.load(task) as given:
        params = tuple(given[f"p{i}"] for i in range(len(given.files) - 2))
        X, Y = given["X"], given["Y"]
    names: dict = {"__name__": "student", "__file__": file}
    exec(compile(source(file), file, "exec"), names)
    if not callable(names.get("backward")):
        raise LookupError("the file defines no function backward(params, X, Y)")
    return names["backward"](params, X, Y)


def source(file: str) -> bytes | str:
    """Return the file as it is, or the code cells of a notebook without magic commands."""
    read = pathlib.Path(file).read_bytes()
    if not file.endswith(".ipynb"):
        return read
    cells = json.loads(read)["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = "\n\n".join(code).splitlines()
    return "\n".join("" if line.lstrip()[:1] in ("%", "!", "?") else line for line in lines)


def words(file: str, error: Exception) -> str:
    """Return an error as one line: where in the file, its type, the first line of its text."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f" in line {lines[-1]}" if lines else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"crash{where}: {type(error).__name__}: {first}".rstrip(": ")


def structure(x, arrays: list):
    """Return lists and dicts with each leaf replaced by the number of its array."""
    import numpy as np

    if isinstance(x, dict):
        return {"dict": [[str(name), structure(value, arrays)] for name, value in x.items()]}
    if isinstance(x, tuple | list) and not all(isinstance(value, int | float) for value in x):
        return {"list": [structure(value, arrays) for value in x]}
    try:
        array = np.asarray(x)
    except Exception:  # whatever the student made of it
        return {"other": type(x).__name__}
    if array.dtype.kind not in "biufc":
        return {"other": type(x).__name__}
    arrays.append(array)
    return {"array": len(arrays) - 1}


def keep(out: str, about: dict, arrays: list) -> None:
    """Write about.json and the arrays, under names that no student can choose."""
    import numpy as np

    folder = pathlib.Path(out)
    np.savez(folder / "arrays.npz", **{f"a{i}": array for i, array in enumerate(arrays)})
    (folder / "about.part").write_text(json.dumps(about))
    (folder / "about.part").replace(folder / "about.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
