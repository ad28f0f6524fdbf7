"""Samples and networks spread over 8 devices: the numbers of one, and nothing is gathered."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@functools.cache
def on_devices():
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, TESTS / "on_devices.py"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name",
    ["value_and_grad", "grad", "per_sample_grads", "per_sample_norms", "gradient_moments",
     "noise_scale", "clipped_grad", "gradient_gram", "gradient_flow", "train_step", "fit"],
)  # fmt: skip
def test_numbers_of_sharded_samples_are_those_of_one_device(name):
    assert on_devices()["devices"] == 8
    assert on_devices()[name]["difference"] <= 2e-6  # float32, sums in another order


def test_results_of_each_sample_stay_where_it_is_and_nothing_is_gathered():
    found = on_devices()
    assert {name for name in found if name != "devices" and found[name].get("spread")} == {
        "per_sample_grads", "per_sample_norms",
    }  # fmt: skip
    gathered = {name for name in found if name != "devices" and found[name].get("gathered")}
    assert gathered == {"gradient_gram"}  # every sample meets every other


def test_a_sweep_on_several_devices_has_the_bits_of_one_with_as_many_at_once():
    assert on_devices()["depth_sweep"]["bits"]
    assert on_devices()["depth_sweep"]["decades"] <= 1e-4
