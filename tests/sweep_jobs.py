"""Jobs without networks, for tests of running and storing them. To measure one is to sleep.

`python sweep_jobs.py STORE LOG NUMBER` runs a sweep of NUMBER jobs into a store.
"""

import functools
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxmlp.sweep.run import collect


class Sleep(NamedTuple):
    networks: list
    seconds: float = 0.01

    def only(self, missing):
        return self._replace(networks=[n for n in self.networks if n in missing])


def rows(network):
    layer = np.arange(3)
    return {"layer": layer, "value": np.where(layer == 1, np.nan, layer / (network % 2))}


def measure(job, log=None):
    """Write which networks are measured, sleep, and return numbers that hold NaN and infinity."""
    if log is not None:
        with Path(log).open("a") as file:
            file.write("".join(f"{network}\n" for network in job.networks))
    time.sleep(job.seconds)
    with np.errstate(all="ignore"):
        return {network: rows(network) for network in job.networks}


def jobs(number, seconds=0.01):
    return [Sleep([2 * i, 2 * i + 1], seconds) for i in range(number // 2)]


def sweep(store, log, number, **options):
    return collect(
        functools.partial(measure, log=log), jobs(number), range(number), store=store, key=str,
        about={}, **options,
    )()  # fmt: skip


if __name__ == "__main__":
    sweep(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print("done")
