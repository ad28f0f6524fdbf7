"""Every test runs with the shape annotations of jaxmlp checked, and with warnings as errors."""

from jaxtyping import install_import_hook

with install_import_hook("jaxmlp", "shapes.check_shapes"):
    import jaxmlp  # noqa: F401
