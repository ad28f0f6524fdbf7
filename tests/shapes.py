"""Shape annotations, checked while testing: `Float[Array, "m d"]` of an argument or a result.

Only those: jaxmlp refuses wrong kinds in its own words, which the tests read. And only functions
that have one are wrapped, because a wrapper costs more than most functions.
"""

import ast
import importlib.abc
import importlib.machinery
import inspect
import sys
import typing

import beartype
import jaxtyping


def check_shapes(fn):
    """Decorate a function: jaxtyping binds the names of its axes, beartype checks the arrays."""
    return jaxtyping.jaxtyped(typechecker=_check_arrays)(fn)


def _check_arrays(fn):
    hints = dict(inspect.get_annotations(fn))
    fn.__annotations__ = {name: hint for name, hint in hints.items() if _is_shape(hint)}
    return beartype.beartype(fn)


def _is_shape(hint) -> bool:
    options = typing.get_args(hint) or (hint,)
    return any(isinstance(o, type) and issubclass(o, jaxtyping.AbstractArray) for o in options)


def check_in(package: str):
    """Decorate, in every module of a package that is imported from now on, what has a shape."""
    sys.meta_path.insert(0, _Finder(package))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, package: str):
        self.package = package

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] != self.package:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):  # the cache of compiled modules holds undecorated ones
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data, path, **_):  # pyright: ignore
        tree = _Decorate().visit(ast.parse(data))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Decorate(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        given = node.args
        arguments = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        hints = [node.returns, *(argument.annotation for argument in arguments if argument)]
        if any(_has_a_string(hint) for hint in hints if hint):
            here = ast.parse("__import__('shapes').check_shapes", mode="eval").body
            node.decorator_list.append(ast.copy_location(here, node))
        return node


def _has_a_string(hint) -> bool:
    """Whether an annotation is like `Float[Array, "m d"] | None`."""
    subscripts = [n.slice for n in ast.walk(hint) if isinstance(n, ast.Subscript)]
    return any(
        isinstance(n, ast.Constant) and isinstance(n.value, str)
        for slice in subscripts
        for n in ast.walk(slice)
    )
