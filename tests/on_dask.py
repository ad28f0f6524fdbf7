"""A sweep by two dask workers is that of this process, to the bit: `python tests/on_dask.py`.

The extra `dask` is 20 packages, so that `.ci/run` installs it after the tests.
"""

import numpy as np

import jaxmlp


def main():
    from distributed import Client, LocalCluster  # not there while the other tests run

    rng = np.random.default_rng(0)
    grid = {
        "activations": ("tanh", "relu"), "inits": "he", "depths": (1, 5), "seeds": range(3),
        "width": 8, "X": rng.normal(size=(16, 4)).astype(np.float32), "Y": np.arange(16) % 3,
    }  # fmt: skip
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        by_dask = jaxmlp.depth_sweep(**grid, executor=client.get_executor(pure=False)).columns()
    for name, column in jaxmlp.depth_sweep(**grid).columns().items():
        np.testing.assert_array_equal(by_dask[name], column)
    print("a sweep by two dask workers has the bits of one process")


if __name__ == "__main__":
    main()
