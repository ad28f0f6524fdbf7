"""Sweeps: the gradient flow of many networks, on any executor, kept in a file, as one table."""

from jaxmlp.sweep.depth import depth_sweep
from jaxmlp.sweep.engine import measure
from jaxmlp.sweep.grid import Job, Network
from jaxmlp.sweep.run import run, workers
from jaxmlp.sweep.table import VERDICTS, SweepTable, verdict

__all__ = [
    "VERDICTS",
    "Job",
    "Network",
    "SweepTable",
    "depth_sweep",
    "measure",
    "run",
    "verdict",
    "workers",
]
