"""The source of a class, a function or a value: one hash, the same in every process.

A chapter's function is its text, and also what it refers to: helpers that are defined
beside it, numbers and arrays, defaults and what a closure holds. What is installed, the
standard library and this library included, is named and not read.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from widthlab.canonical import content_sha256

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# What JAX differentiates such a function by.
_RULES = ("jvp", "fwd", "bwd", "nondiff_argnums")
_INSTALLED = {*sys.stdlib_module_names, "builtins", "widthlab"}
# Methods that a decorator writes follow from the fields, and their text is not the
# author's.
_GENERATED = ("__create_fn__.", "<attrs generated")


def source_sha256(item: Any) -> str:
    """Return the SHA-256 of what `item` is made of.

    Example:
        >>> def scaled(by):
        ...     return lambda x: by * x
        >>> source_sha256(scaled(2)) == source_sha256(scaled(2))
        True
        >>> source_sha256(scaled(2)) == source_sha256(scaled(3))
        False
    """
    return hashlib.sha256(_text(item, {}).encode()).hexdigest()


def without_addresses(text: str) -> str:
    """Return a text without the addresses of objects, which every process has its own.

    >>> without_addresses("<function f at 0x7f2d>")
    '<function f>'
    """
    return _ADDRESS.sub("", text)


def _text(value: Any, numbers: dict[int, tuple[int, Any]]) -> str:
    """Describe a value; `numbers` counts what was met already, so that circles end.

    It holds these values, whose ids others would have once they were gone.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array_text(value)
    if isinstance(value, Mapping):
        pairs = ((_text(k, numbers), _text(v, numbers)) for k, v in value.items())
        return f"{{{', '.join(': '.join(pair) for pair in pairs)}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(_text(v, numbers) for v in value)})"
    if isinstance(value, set | frozenset):
        # Each by itself: the order of a set differs from process to process, as
        # addresses and hashes of strings do.
        return f"set({', '.join(sorted(_text(v, dict(numbers)) for v in value))})"
    if name := _installed_name(value):
        return name
    # By number and not by `id`: the order of meeting is the same in every process.
    if id(value) in numbers:
        return f"again {numbers[id(value)][0]}"
    numbers[id(value)] = len(numbers), value
    return "; ".join(_parts(value, numbers))


def _parts(value: Any, numbers: dict[int, tuple[int, Any]]) -> Iterator[str]:
    """Yield the descriptions of what a function, class or object consists of."""
    if isinstance(value, ModuleType):
        yield _source_text(value) or value.__name__
    elif isinstance(value, functools.partial):
        yield _text((value.func, value.args, value.keywords), numbers)
    elif isinstance(value, MethodType):
        yield _text((value.__func__, value.__self__), numbers)
    elif isinstance(value, FunctionType):
        yield _function_text(value.__code__)
        yield _text((value.__defaults__, value.__kwdefaults__), numbers)
        yield _text(_referred(value), numbers)
    elif isinstance(value, type):
        yield _text(value.__bases__, numbers)
        yield _text(dict(_body(value)), numbers)
    elif dataclasses.is_dataclass(value) or attrs.has(type(value)):
        yield _text(type(value), numbers)
        kind: Any = type(value)
        fields = attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind)
        yield _text({f.name: getattr(value, f.name) for f in fields}, numbers)
    elif isinstance(value, functools.cached_property):
        yield _text(value.func, numbers)
    elif inner := [n for n in ("__wrapped__", "fget") if hasattr(value, n)]:
        yield _text(getattr(value, inner[0]), numbers)  # jitted, cached, or a property
        if isinstance(value, jax.custom_jvp | jax.custom_vjp):
            yield _text([getattr(value, rule, None) for rule in _RULES], numbers)
    else:
        state = _state(value)
        yield _text(type(value), numbers)
        yield without_addresses(repr(value)) if state is None else _text(state, numbers)


def _array_text(value: Any) -> str:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    return f"array {array.shape} {content_sha256(array)}"


def _installed_name(value: Any) -> str | None:
    """Return the full name of what a package or the standard library defines."""
    if isinstance(value, ModuleType):
        module, name = value.__name__, "module"
    else:
        module = getattr(value, "__module__", None)
        name = getattr(value, "__qualname__", getattr(value, "__name__", None))
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    if module == "builtins" and _is_executed(value):
        return None
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    packaged = {"site-packages", "dist-packages"} & {*PurePath(file).parts}
    known = module.partition(".")[0] in _INSTALLED
    return f"{module}.{name}" if known or packaged else None


def _is_executed(value: Any) -> bool:
    """Whether a function or class is Python's own only by name.

    What `exec` defines in a namespace without a `__name__` says it is a builtin.
    """
    on_heap = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
    made = isinstance(value, type) and bool(value.__flags__ & on_heap)
    return made or isinstance(value, FunctionType)


def _source_text(value: Any) -> str | None:
    # All that is run from strings has this name, and since 3.13 Python keeps the text
    # of one of them, that of `python -c`: it need not be the one that is asked for.
    if getattr(value, "co_filename", None) == "<string>":
        return None
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        return None


def _state(value: Any) -> Any:
    """Return what an object is rebuilt from; None where what it prints is all there is.

    What it prints may leave much out. So it is what pickling takes, the class aside,
    or the attributes of what cannot be pickled.
    """
    if isinstance(value, Enum):
        return None
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # whatever a class raises that is not meant to be pickled
        return getattr(value, "__dict__", None)
    if isinstance(reduced, str):
        return reduced
    _, arguments, *rest = reduced
    items = [list(part) if isinstance(part, Iterator) else part for part in rest]
    return [a for a in arguments if a is not type(value)], items


def _function_text(code: CodeType) -> str:
    """Return a function's text: its own, not that of a function which it wraps."""
    text = _source_text(code)
    if text is None:
        return _compiled_text(code)
    # Of several in one statement, the text does not say which.
    several = code.co_name == "<lambda>" and text.count("lambda") > 1
    return text + _compiled_text(code) if several else text


def _compiled_text(code: CodeType) -> str:
    """Describe code without a text, as what is typed at a prompt: by what it does."""
    parts = [(c.co_code, c.co_names, _constants(c)) for c in _codes(code)]
    return _text(parts, {})


def _constants(code: CodeType) -> list[Any]:
    return [c for c in code.co_consts if not isinstance(c, CodeType)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _referred(function: FunctionType) -> dict[str, Any]:
    """Return what a function takes from around it: globals, then a closure's cells."""
    # Names by the instructions that load them: in a function's text they could be
    # attributes, or names of its own.
    names = {
        instruction.argval
        for code in _codes(function.__code__)
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    around = function.__globals__
    referred = {name: around[name] for name in sorted(names) if name in around}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            referred[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return referred


def _body(cls: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(cls).items():
        if isinstance(value, FunctionType):
            code = value.__code__
            written = (code.co_qualname, code.co_filename)
            if not any(text.startswith(_GENERATED) for text in written):
                yield name, value
        elif not name.startswith("__"):
            yield name, value
