"""Every test runs with the shape annotations of jaxmlp checked, and with warnings as errors."""

import atexit
import gc
import mmap
import os
from importlib import util
from pathlib import Path

# Nearly all the time of the tests is compilation, so XLA is told to compile fast and not to compile
# fast code: two thirds of the time go. Users run the experiments without them. A flag that this
# jaxlib does not know would end the process, so each is looked for in it first.
FAST_TO_COMPILE = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}


# Linux allows a process 65,530 memory maps; a module of tests makes up to some thousands.
MOST_MAPS = 30_000


def _known_flags():
    """Return the flags above that the installed jaxlib knows.

    Of a flag that is no more it may still know the name, as a reserved one, but not as a C string.
    """
    package = Path(util.find_spec("jaxlib").origin).parent
    unknown, known = dict(FAST_TO_COMPILE), []
    for library in sorted(package.glob("*.so*"), key=lambda path: -path.stat().st_size):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            found = [name for name in unknown if m.find(b"\0%b\0" % name.encode()) >= 0]
        known += [f"--{name}={unknown.pop(name)}" for name in found]
        if not unknown:
            break
    return known


os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_known_flags()])

# A program need not say of each operation which lines of Python made it.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"

# Of an exception that passes through JAX nobody reads the traceback, and JAX takes long to cut it.
os.environ["JAX_TRACEBACK_FILTERING"] = "off"

# Tracing makes millions of small objects that live long: by default Python looks through all of
# them again and again, which is a tenth of the time.
gc.set_threshold(200_000, 50, 1000)

import pytest  # noqa: E402
import shapes  # noqa: E402

shapes.check_in("jaxmlp")


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_networks():
    """Clear the caches before compiled networks exhaust the memory maps of the process."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or len(maps.read_bytes().splitlines()) > MOST_MAPS:
        import jax  # not where pytest only hands the tests out

        jax.clear_caches()


def pytest_sessionfinish():
    """End a worker at once: to take down gigabytes of compiled programs takes it seconds."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        atexit.register(os._exit, 0)
