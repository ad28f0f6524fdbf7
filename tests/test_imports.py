"""The architecture as a test: who may import whom, and what importing the package does."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxmlp

PACKAGE = Path(jaxmlp.__file__).parent
ORDER = [
    "checks",
    "report",
    "named",
    "numerics",
    "activations",
    "norms",
    "losses",
    "loss_checking",
    "targets",
    "initializers",
    "layer",
    "walk",
    "storage",
    "compare",
    "edge",
    "mlp",
    "objective",
    "backprop",
    "per_sample",
    "scaled",
    "flow_report",
    "magnitudes",
    "flow",
    "frames",
    "spectrum",
    "gradcheck",
    "testing",
    "train",
    "meanfield",
    "sweep",
    "datasets",
    "plotting",
    "lecture",
    "__main__",
]
FILES = {  # a module may be a package
    path.stem: sorted(path.rglob("*.py")) if path.is_dir() else [path]
    for path in sorted(PACKAGE.iterdir())
    if path.suffix == ".py" or (path / "__init__.py").exists()
}
MODULES = [name for name in FILES if name != "__init__"]
AUTODIFF = {
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "linearize",
    "linear_transpose",
    "jacobian",
    "jacfwd",
    "jacrev",
    "hessian",
    "custom_vjp",
    "custom_jvp",
}
BY_HAND = ORDER[: ORDER.index("gradcheck")]  # the rest may compare with autodiff
DOOR = sorted(PACKAGE.glob("per_sample/any_model/*.py"))  # models that nobody derived by hand


def parsed(module, without=()):
    files = [path for path in FILES[module] if path not in without]
    return ast.parse("\n".join(path.read_text() for path in files))


def runtime_nodes(tree):
    """Yield every node except those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from runtime_nodes(node)


def imported(tree):
    """Yield the dotted names that a module imports anywhere."""
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "jaxmlp" if node.level else node.module
            inside = [node.module] if node.level and node.module else []
            if base == "jaxmlp" and not inside:
                yield from (f"jaxmlp.{alias.name}" for alias in node.names)
            else:
                yield ".".join([base, *inside])


def siblings(tree):
    """Return the modules of jaxmlp that a module imports."""
    return {name.split(".")[1] for name in imported(tree) if name.startswith("jaxmlp.")}


def autodiff_names(tree):
    """Yield the names of JAX's autodiff in a module: `jax.grad`, `from jax import grad`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in AUTODIFF:
            if ast.unparse(node).split(".")[0] == "jax":
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jax":
            yield from (alias.name for alias in node.names if alias.name in AUTODIFF)


# --- who imports whom -----------------------------------------------------------------------------


def test_every_module_has_its_place_in_the_order():
    assert set(MODULES) <= set(ORDER)
    assert {
        "activations",
        "losses",
        "layer",
        "walk",
        "mlp",
        "objective",
        "backprop",
        "train",
    } <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_upwards_only(module):
    above = set(ORDER[: ORDER.index(module)])
    assert siblings(parsed(module)) - {module} <= above


@pytest.mark.parametrize(
    ("module", "allowed"),
    [("datasets", {"checks", "report"}), ("plotting", set()), ("report", set())],
)
def test_datasets_plotting_and_report_stand_alone(module, allowed):
    tree = parsed(module)
    assert siblings(tree) - {module} <= allowed
    assert "jaxmlp" not in set(imported(tree))


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__main__"])
def test_no_module_imports_the_package_itself(module):
    assert "jaxmlp" not in set(imported(parsed(module)))


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_matplotlib_is_imported_in_plotting_only(module):
    found = {name.split(".")[0] for name in imported(parsed(module))}
    assert ("matplotlib" in found) == (module == "plotting")


@pytest.mark.parametrize("module", [name for name in MODULES if name in BY_HAND])
def test_hand_written_path_names_no_autodiff(module):
    assert set(autodiff_names(parsed(module, without=DOOR))) == set()


def test_autodiff_on_the_hand_written_path_is_the_door_to_any_model_and_nobody_goes_through_it():
    tree = ast.parse("\n".join(path.read_text() for path in DOOR))
    assert {"grad"} <= set(autodiff_names(tree)) <= {"grad", "linear_transpose"}
    inside = [path for path in PACKAGE.rglob("*.py") if path not in DOOR]
    through = [
        p.parent.name
        for p in inside
        if any("any_model" in name for name in imported(ast.parse(p.read_text())))
    ]
    assert through == ["per_sample"]  # its `__init__` lets the public names out


def test_hand_written_path_includes_the_walk_and_its_derivatives():
    assert {"activations", "norms", "losses", "layer", "walk", "backprop"} <= set(BY_HAND) & set(
        MODULES
    )


def test_checks_see_what_they_look_for():
    tree = ast.parse(
        "import jax, matplotlib.pyplot as plt\n"
        "from jax import grad, numpy\n"
        "from jaxmlp import losses\n"
        "from jaxmlp.train import fit\n"
        "from . import flow\n"
        "from .mlp import MLP\n"
        "if TYPE_CHECKING:\n"
        "    from jaxmlp import sweep\n"
        "def f(x):\n"
        "    import jaxmlp.plotting\n"
        "    return jax.vjp(x), backprop.grad(x), grad(x)\n"
    )
    assert siblings(tree) == {"losses", "train", "flow", "mlp", "plotting"}
    assert {name.split(".")[0] for name in imported(tree)} == {"jax", "matplotlib", "jaxmlp"}
    assert sorted(autodiff_names(tree)) == ["grad", "vjp"]


# --- what importing does --------------------------------------------------------------------------

PROBE = """
import json, sys
import jax
before = {name: repr(value) for name, value in jax.config.values.items()}
import jaxmlp
after = {name: repr(value) for name, value in jax.config.values.items()}
changed = sorted(name for name in before | after if before.get(name) != after.get(name))
heavy = ("matplotlib", "sklearn", "scipy.optimize", "tyro", "rich", "pandas", "pytest")
started = jax._src.xla_bridge.backends_are_initialized()
heavy = [name for name in heavy if name in sys.modules]
print(json.dumps({"changed": changed, "heavy": heavy, "started": started}))
"""


def test_importing_changes_no_flag_starts_no_backend_and_loads_no_matplotlib():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"changed": [], "heavy": [], "started": False}


def test_package_exports_what_it_names():
    assert all(hasattr(jaxmlp, name) for name in jaxmlp.__all__)
    assert len(jaxmlp.__all__) == len(set(jaxmlp.__all__))
