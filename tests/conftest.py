"""Every test runs with the shape annotations of jaxmlp checked, and with warnings as errors."""

import jax
import pytest
from jaxtyping import install_import_hook

with install_import_hook("jaxmlp", "shapes.check_shapes"):
    import jaxmlp  # noqa: F401


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_networks():
    """Hundreds of compiled networks exhaust the memory maps of a process."""
    yield
    jax.clear_caches()
