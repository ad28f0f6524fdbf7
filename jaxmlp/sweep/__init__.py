"""Sweeps: the gradient flow of many networks, on any executor, kept in a file, as one table."""

from jaxmlp.sweep.depth import Planned, depth_sweep, plan
from jaxmlp.sweep.engine import measure
from jaxmlp.sweep.grid import Job, Network
from jaxmlp.sweep.run import WorkersDied, run, workers
from jaxmlp.sweep.summary import VERDICTS, verdict
from jaxmlp.sweep.table import SweepTable
from jaxmlp.sweep.training import training_sweep

__all__ = [
    "VERDICTS",
    "Job",
    "Network",
    "Planned",
    "SweepTable",
    "WorkersDied",
    "depth_sweep",
    "measure",
    "plan",
    "run",
    "training_sweep",
    "verdict",
    "workers",
]
