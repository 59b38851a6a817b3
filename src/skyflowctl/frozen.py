"""Dataclasses whose definition costs little.

For each class, the standard library compiles six methods from text, which takes 0.5 ms: a command
that loads 120 classes would spend 60 ms, two thirds of ``bao version``. Here, the methods of frozen
classes are closures, and ``__init__`` alone is compiled, when the first instance is made (40 µs to
define a class). Fields, ``replace``, ``asdict`` and matching are the standard library's.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass  # type checkers know its rules
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """Do what ``dataclasses.dataclass`` does."""
        if cls is None and options == {"frozen": True, "slots": True}:
            return _frozen
        return dataclasses.dataclass(cls, **options)


def _frozen(cls: type) -> type:
    cls.__doc__ = cls.__doc__ or cls.__name__  # else its signature is its text, which is slow
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    methods = {
        "__init__": _first_init(made),
        "__repr__": _repr,
        "__eq__": _equality(made),
        "__hash__": _hash(made),
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
        "__getstate__": _state,
        "__setstate__": _set_state,
    }
    for name, method in methods.items():
        if vars(cls).get(name) is None:  # a class with its own __eq__ has None for __hash__
            setattr(made, name, method)
    result: type = made
    return result


def _first_init(cls: Any) -> Callable[..., None]:
    """Return the ``__init__`` of a class's first instance, which compiles that of the others."""

    def __init__(self: Any, *args: Any, **named: Any) -> None:  # noqa: N807 - it is a method
        cls.__init__ = _compiled_init(cls)
        cls.__init__(self, *args, **named)

    return __init__


def _compiled_init(cls: Any) -> Callable[..., None]:
    names: dict[str, Any] = {"_MISSING": MISSING}
    # Keyword-only parameters come last.
    ordered = sorted(fields(cls), key=lambda one: bool(one.kw_only))
    parameters = [_parameter(one, names) for one in ordered]
    keyword_only = sum(bool(one.kw_only) for one in ordered)
    if keyword_only:
        parameters.insert(len(parameters) - keyword_only, "*")
    lines = [f" _set_{one.name}(self, {_value(one)})" for one in ordered]
    names |= {f"_set_{one.name}": getattr(cls, one.name).__set__ for one in ordered}
    if "__post_init__" in dir(cls):
        lines.append(" self.__post_init__()")
    head = f"def __init__({', '.join(['self', *parameters])}):"
    exec("\n".join([head, *(lines or [" pass"])]), names)  # noqa: S102 - the class's own names
    compiled: Callable[..., None] = names["__init__"]
    compiled.__qualname__ = f"{cls.__qualname__}.__init__"
    return compiled


def _parameter(one: Field[Any], names: dict[str, Any]) -> str:
    """Return the text of a field's parameter, and add the names that it and its value use."""
    if not one.init:
        message = f"the field {one.name} has init=False, which is not supported"
        raise TypeError(message)
    names[f"_make_{one.name}"] = one.default_factory
    names[f"_default_{one.name}"] = one.default
    if one.default is MISSING and one.default_factory is MISSING:
        return one.name
    return f"{one.name}=_default_{one.name}"


def _value(one: Field[Any]) -> str:
    if one.default_factory is MISSING:
        return one.name
    return f"_make_{one.name}() if {one.name} is _MISSING else {one.name}"


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _getter(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    chosen = tuple(names)
    if len(chosen) > 1:
        return attrgetter(*chosen)
    return lambda item: tuple(getattr(item, name) for name in chosen)


def _equality(cls: Any) -> Callable[[Any, object], bool]:
    values = _getter(one.name for one in fields(cls) if one.compare)

    def __eq__(self: Any, other: object) -> bool:  # noqa: N807 - it is a method
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return __eq__


def _hash(cls: Any) -> Callable[[Any], int]:
    used = (one for one in fields(cls) if (one.compare if one.hash is None else one.hash))
    values = _getter(one.name for one in used)
    return lambda self: hash(values(self))


def _refuse_to_set(_: Any, name: str, value: object) -> NoReturn:  # noqa: ARG001 - __setattr__'s
    message = f"cannot assign to field {name!r}"
    raise FrozenInstanceError(message)


def _refuse_to_delete(_: Any, name: str) -> NoReturn:
    message = f"cannot delete field {name!r}"
    raise FrozenInstanceError(message)


# copy and pickle would restore the slots with __setattr__.


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)
