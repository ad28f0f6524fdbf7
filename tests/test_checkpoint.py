"""Checkpoints: a run that goes on ends as one that was never broken, and no other file is taken."""

import json
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmlp
from jaxmlp import Layer, fit
from jaxmlp.train import checkpoint

M = 7
J = jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="tanh"), "cross_entropy")
ADAM = optax.adam(0.05)
KEY = jax.random.key(3)


def drawn(dtype=np.float32):
    """`(params, X, Y)`, drawn by NumPy, so that nothing is compiled."""
    rng = np.random.default_rng(0)
    shapes = ((2, 4), (4, 3))
    params = tuple(
        Layer(rng.normal(size=s).astype(dtype), rng.normal(size=s[1]).astype(dtype)) for s in shapes
    )
    return params, rng.normal(size=(M, 2)).astype(dtype), rng.integers(0, 3, M)


PARAMS, X, Y = drawn()
WAY = {
    "optimizer": ADAM, "batch_size": 3, "key": KEY, "validation": (X[:4], Y[:4]), "every": 2,
    "record": lambda params, X, Y: {"W": params[0].W, "size": (params[1].W.max(),)},
}  # fmt: skip


def run(path=None, epochs=9, **way):
    return fit(way.pop("J", J), way.pop("params", PARAMS), way.pop("X", X), way.pop("Y", Y),
               epochs=epochs, checkpoint=path, **WAY | way)  # fmt: skip


def assert_equal(ours, theirs):
    """Assert equality bit by bit, NaN included."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken_at", [1, 4, 8, 9])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(broken_at, tmp_path):
    path = tmp_path / "run.npz"

    def fails(params, X, Y, step):
        if step == 3 * broken_at and fails.once:
            fails.once = False
            raise ZeroDivisionError
        return WAY["record"](params, X, Y)

    fails.once = True
    with pytest.raises(ZeroDivisionError):
        run(path, record=fails, every=1)
    assert path.exists() == (broken_at > 1)
    assert_equal(run(path, record=fails, every=1, resume=True), run(every=1))
    # what has ended goes on to a later end, and once more
    assert_equal(run(path, epochs=12, record=fails, every=1, resume=True), run(epochs=12, every=1))
    assert_equal(run(path, epochs=12, record=fails, every=1, resume=True), run(epochs=12, every=1))


def test_steps_are_saved_within_an_epoch(tmp_path):
    path = tmp_path / "run.npz"
    for steps in (2, 5, 10):
        ours = run(path, epochs=None, num_steps=steps, resume=True, checkpoint_every=100)
        assert checkpoint.read(path)[0]["done"] == steps
        assert_equal(ours, run(epochs=None, num_steps=steps))


def test_dtypes_and_keys_that_numpy_does_not_know_are_saved(tmp_path):
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), PARAMS)
    noisy = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(1)), optax.sgd(0.1, momentum=0.9))
    way = {"params": half, "X": jnp.asarray(X, jnp.bfloat16), "optimizer": noisy, "record": None,
           "validation": None}  # fmt: skip
    path = tmp_path / "run.npz"
    run(path, epochs=2, **way)
    assert_equal(run(path, epochs=5, resume=True, **way), run(epochs=5, **way))


def test_a_run_that_reached_eps_stays_stopped(tmp_path):
    path = tmp_path / "run.npz"
    losses = run()[1].loss
    ended = run(path, eps=float(losses[3]))
    assert len(ended[1].loss) == 4
    assert_equal(run(path, eps=float(losses[3]), resume=True), ended)


KILLED = """
import sys
sys.path[:0] = {path!r}
import test_checkpoint
test_checkpoint.run(sys.argv[1], epochs=100_000, resume=True)
"""


def killed_and_resumed(folder, kills, seed):
    """Kill a run at random moments; return what `(params, history)` it has when it is whole."""
    moments, path = random.Random(seed), folder / "run.npz"
    script = KILLED.format(path=[str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    for _ in range(kills):
        before = path.stat().st_mtime_ns if path.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=folder)
        while not path.exists() or path.stat().st_mtime_ns == before:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = checkpoint.read(path)[0]["done"] // 3
    assert done > 0
    return done, run(path, epochs=done + 5, resume=True, checkpoint_every=1000)


def test_a_run_killed_at_random_moments_equals_the_unbroken_one(tmp_path):
    done, ours = killed_and_resumed(tmp_path, 2, seed=0)
    assert_equal(ours, run(epochs=done + 5))


# --- what is refused ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run.npz"
    run(path, epochs=5)
    return path


def copied(saved, folder):
    for name in ("run.npz", "run.previous.npz"):
        (folder / name).write_bytes((saved.parent / name).read_bytes())
    return folder / "run.npz"


def test_a_flipped_byte_anywhere_and_a_truncated_file_are_refused(saved, tmp_path):
    path = tmp_path / "run.npz"
    content = saved.read_bytes()
    places = [0, len(content) // 2, len(content) - 1]
    places += random.Random(0).sample(range(len(content)), 40)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"run\.npz is damaged: "):
            checkpoint.read(path)
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"run\.npz is damaged: "):
            checkpoint.read(path)


def test_an_array_that_does_not_agree_is_named(saved, tmp_path):
    path = tmp_path / "run.npz"
    content = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        place = archive.getinfo("state.params.0.W.npy").header_offset + 210
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(ValueError, match=r"Bad CRC-32 for file 'state\.params\.0\.W\.npy'"):
        checkpoint.read(path)


def test_the_one_before_a_damaged_one_is_used_if_asked(saved, tmp_path):
    path = copied(saved, tmp_path)
    path.write_bytes(saved.read_bytes()[:-100])
    sentence = f"resume='previous' goes on from {tmp_path / 'run.previous.npz'}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(path, resume=True)
    assert checkpoint.read(checkpoint.previous_of(path))[0]["done"] == 12
    with pytest.warns(UserWarning, match=r"is damaged: .*: going on from the one before"):
        ours = run(path, resume="previous")
    assert_equal(ours, run())
    for file in (path, checkpoint.previous_of(path)):
        checkpoint.read(file)  # both are whole again


TANH4 = jaxmlp.MLP((2, 4, 3), hidden="tanh")


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ({"J": jaxmlp.Objective(jaxmlp.MLP((2, 4, 3), hidden="relu"), "cross_entropy")},
         "of another run: hidden was tanh, is relu"),
        ({"J": jaxmlp.Objective(TANH4, "mse"), "Y": np.eye(3, dtype=np.float32)[Y],
          "validation": None}, "of another run: loss was cross_entropy, is mse"),
        ({"optimizer": optax.sgd(0.05)}, "the optimiser's state was PyTreeDef("),
        ({"optimizer": optax.adam(0.06)}, "the formula of a step (optimiser, activations) was "),
        ({"X": X + 1}, "of another run: X was "),
        ({"Y": (Y + 1) % 3}, "of another run: Y was "),
        ({"batch_size": 2}, "of another run: batch_size was 3, is 2"),
        ({"key": None}, "of another run: key was [0, 3], is none"),
        ({"validation": (X, Y)}, "of another run: validation was "),
        ({"eps": 1e-3}, "of another run: eps was -inf, is 0.001"),
        ({"gradient": "jax"}, "of another run: gradient was hand, is jax"),
        ({"every": 3}, "of another run: record was every 6 steps, is every 9 steps"),
        ({"params": jax.tree.map(lambda x: x + 1, PARAMS)}, "the parameters at the start was "),
        ({"record": lambda params, X, Y: 3.0}, "of another run: it has no record0"),
        ({"resume": False}, "holds a checkpoint: resume=True goes on from it, another path begins"),
        ({"resume": "last"}, "resume must be True, False or 'previous', got 'last'"),
        ({"epochs": 4}, "is beyond the end: 15 of 12 steps are done"),
    ],
)  # fmt: skip
def test_the_checkpoint_of_another_run_is_refused_with_the_difference_named(way, sentence, saved):
    content = saved.read_bytes()
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(saved, **{"resume": True} | way)
    assert saved.read_bytes() == content


def test_the_file_is_plain_arrays_and_json_with_a_digest_for_each(saved):
    with np.load(saved, allow_pickle=False) as file:
        told = json.loads(file["checkpoint.json"])
        names = set(file.files) - {"checkpoint.json"}
        assert names == set(told["sha256"])
        W = file["state.params.0.W"]
    assert (told["done"], told["records"]) == (15, 2)
    np.testing.assert_array_equal(W, run(epochs=5)[0][0].W)
    assert list(saved.parent.glob(".*")) == []
