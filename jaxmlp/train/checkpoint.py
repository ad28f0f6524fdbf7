"""Checkpoints: a training on disk, from which a killed run goes on bit for bit.

A checkpoint is one `.npz` file. It holds an array for each leaf of the state, of the epochs so far
and of the records, and `checkpoint.json`, which describes the run and has the SHA-256 of each
array. It is written to a temporary file, synced to the disk and renamed, so a half-written one
never has its name. The one before it is kept. Nothing is pickled.
"""

import dataclasses
import hashlib
import io
import itertools
import json
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.train.host import Reached, epochs_of
from jaxmlp.train.loop import Data, Run, State, run_steps

JSON = "checkpoint.json"
FORMAT = 1
DIGEST = 64  # hexadecimal digits of a SHA-256

Identity = dict[str, str]


# --- the identity of a run ------------------------------------------------------------------------


def identity(run: Run, state: State, data: Data, record: str) -> Identity:
    """Return all in which a resumed run must equal the first, or it would end differently.

    Args:
      state: that before the first step. record: how often records are made.
    """
    mlp = run.J.mlp
    fields = {f.name: getattr(mlp, f.name) for f in dataclasses.fields(mlp) if f.name != "_"}
    X, Y = data.validation or (None, None)
    program = run_steps.lower(run, state, data, np.zeros(2, np.int32), np.int32(0)).as_text()
    return {
        **{name: _in_short(value) for name, value in fields.items()},
        "loss": run.J.loss.name,
        "gradient": run.gradient,
        "batch_size": str(run.batch_size),
        "key": "none" if data.key is None else str(jax.random.key_data(data.key).tolist()),
        "eps": str(float(data.eps)),
        "record": record,
        "X": digest(data.X),
        "Y": digest(data.Y),
        "validation": "none" if X is None else digest(X, Y),
        "the parameters at the start": digest(*jax.tree.leaves(state.params)),
        "the optimiser's state": str(jax.tree.structure(state.opt_state)),
        # Differences without a name, such as the optimiser's numbers, are in the compiled program
        "the formula of a step (optimiser, activations)": digest(program),
        "jax": jax.__version__,
    }


def _in_short(value: Any) -> str:
    """Return sizes or activations as text, "3 x tanh" for three in a row."""
    if not isinstance(value, tuple):
        return str(getattr(value, "name", value))
    names = (str(getattr(entry, "name", entry)) for entry in value)
    counted = ((name, len(list(same))) for name, same in itertools.groupby(names))
    return ", ".join(name if n == 1 else f"{n} x {name}" for name, n in counted)


def digest(*arrays: Any) -> str:
    """Return the SHA-256 of a text, or of arrays with their dtypes and shapes."""
    total = hashlib.sha256()
    for array in arrays:
        if isinstance(array, str):
            total.update(array.encode())
        else:
            array = np.asarray(array)
            total.update(f"{array.dtype}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


# --- writing --------------------------------------------------------------------------------------


def save(path: Path, about: Identity, reached: Reached, records: list) -> None:
    """Write a checkpoint. The one that was newest becomes the previous one."""
    # Put it together
    trees = {"state": reached.state, "epochs": epochs_of(reached)}
    trees |= {f"record{i}": record for i, record in enumerate(records)}
    arrays = {name: _bare(leaf) for name, leaf in _named(trees).items()}
    header = {"format": FORMAT, "run": about, "done": reached.done, "records": len(records)}
    header["sha256"] = {name: digest(array) for name, array in arrays.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.writestr(JSON, json.dumps(header, indent=1))
        archive.comment = bytes(DIGEST)  # the end of the file, where its own SHA-256 goes
    content = file.getvalue()[:-DIGEST]

    # Write it to a temporary file, and rename that
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as out:
        out.write(content + hashlib.sha256(content).hexdigest().encode())
        out.flush()
        os.fsync(out.fileno())
    if path.exists():
        _copy(path, previous_of(path))
    part.replace(path)
    # Sync the folder, so that the renaming is on the disk too
    try:
        number = os.open(path.parent, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


def previous_of(path: Path) -> Path:
    """Return where the checkpoint before the newest is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def _copy(path: Path, other: Path) -> None:
    """Make `other` the same file as `path`; there is no moment at which it does not exist."""
    link = other.with_name(f".{other.name}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # the file system has no links
        shutil.copyfile(path, link)
    link.replace(other)


def _named(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their paths."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _bare(leaf: Any) -> np.ndarray:
    """Return a leaf as an array that NumPy can write."""
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    if array.dtype.kind == "V":  # a dtype that only JAX knows, such as bfloat16: its bytes
        return np.frombuffer(array.tobytes(), np.uint8).reshape(*array.shape, array.itemsize)
    return array


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


# --- reading --------------------------------------------------------------------------------------


def resumed(path: Path, resume: bool | str, about: Identity, fresh: Reached, recorded: Any):
    """Return `(reached, records)` of the checkpoint, or `(fresh, [])` if there is none.

    Args:
      resume: False refuses an existing file; "previous" takes the one before it if it is damaged.
      fresh: what is reached before the first step.
      recorded: an example of a record, for its structure, which is not saved; None without any.
    """
    if resume not in (True, False, "previous"):
        raise ValueError(f"resume must be True, False or 'previous', got {resume!r}")
    if not path.exists():
        return fresh, []
    if not resume:
        raise ValueError(
            f"{path} holds a checkpoint: resume=True goes on from it, another path begins anew"
        )
    try:
        header, arrays = read(path)
    except ValueError as error:
        before = previous_of(path)
        if resume != "previous":
            hint = f"; resume='previous' goes on from {before}" if before.exists() else ""
            raise ValueError(f"{error}{hint}") from None
        header, arrays = read(before)
        _copy(before, path)  # otherwise the next save would replace the only undamaged one
        warnings.warn(f"{error}: going on from the one before", UserWarning, stacklevel=3)
    _refuse_another(path, header["run"], about)

    # Put the arrays into the trees they came from
    reached = fresh._replace(done=header["done"])
    trees = {"state": fresh.state, "epochs": epochs_of(fresh)}
    found = _filled(path, trees, arrays)
    records = [
        _filled(path, {f"record{i}": recorded}, arrays)[f"record{i}"]
        for i in range(header["records"])
    ]
    return reached._replace(state=found["state"], rows=[found["epochs"]]), records


def read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the header and the arrays of a file; refuse it if a byte has changed."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint {path}") from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            header = json.loads(members[JSON])
            arrays = {name: members[name] for name in members.files if name != JSON}
        changed = [name for name in arrays if digest(arrays[name]) != header["sha256"].get(name)]
        missing = sorted(set(header["sha256"]) - set(arrays))
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError,
            TypeError, AttributeError, NotImplementedError, RuntimeError) as error:  # fmt: skip
        raise ValueError(f"checkpoint {path} is damaged: {error}") from None
    # The digest of the file is behind the file, that of each array is in the header
    whole = hashlib.sha256(content[:-DIGEST]).hexdigest().encode() == content[-DIGEST:]
    if changed or missing or not whole:
        what = f"the SHA-256 of {(changed + missing + ['the file'])[0]} does not agree"
        raise ValueError(f"checkpoint {path} is damaged: {what}")
    if header.get("format") != FORMAT:
        raise ValueError(f"checkpoint {path} has format {header.get('format')}, expected {FORMAT}")
    return header, arrays


def _refuse_another(path: Path, run: Mapping[str, str], about: Identity) -> None:
    """Refuse a checkpoint of a run that differs; the error names all differences."""
    differ = [name for name in about if run.get(name) != about[name]]
    if differ:
        shorter = [name for name in differ if not name.startswith("the formula")] or differ
        changes = (f"{name} was {_cut(run.get(name))}, is {_cut(about[name])}" for name in shorter)
        raise ValueError(f"checkpoint {path} is of another run: {'; '.join(changes)}")


def _cut(text: Any) -> str:
    """Return a digest as its first 8 digits, and any other text cut to a line of 80."""
    text = str(text)
    if len(text) == DIGEST and text.isalnum():
        return f"{text[:8]}..."
    return text if len(text) <= 80 else f"{text[:77]}..."


def _filled(path: Path, tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the tree with its leaves replaced by those of a file."""
    named, structure = _named(tree), jax.tree.structure(tree)
    lacks = sorted(set(named) - set(arrays))
    if lacks:
        raise ValueError(f"checkpoint {path} is of another run: it has no {lacks[0]}")
    leaves = [_dressed(arrays[name], leaf) for name, leaf in named.items()]
    return jax.tree.unflatten(structure, leaves)


def _dressed(array: np.ndarray, like: Any) -> Any:
    """Return an array of a file as its leaf was: JAX's or NumPy's, a key, or a dtype of JAX."""
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    dtype = np.asarray(like).dtype
    if dtype.kind == "V":
        array = np.frombuffer(array.tobytes(), dtype).reshape(array.shape[:-1])
    return jnp.asarray(array) if isinstance(like, jax.Array) else array
