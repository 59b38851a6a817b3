"""The frozen dataclasses of this package behave as those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, FrozenInstanceError, asdict, astuple, field, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from skyflowctl.frozen import dataclass as ours

T = TypeVar("T")


def shapes(dataclass: Callable) -> dict[str, Any]:
    """Return classes of every shape, made by this decorator."""

    @dataclass(frozen=True, slots=True)
    class Empty:
        pass

    @dataclass(frozen=True, slots=True)
    class One:
        a: Any

    @dataclass(frozen=True, slots=True)
    class Full:
        """Documented."""

        kind: ClassVar[str] = "full"
        a: Any
        b: str = "b"
        c: list[int] = field(default_factory=list)
        hidden: str = field(default="secret", repr=False)
        ignored: int = field(default=0, compare=False)
        unhashed: Any = field(default=None, hash=False)
        _private: int = 1

        @property
        def twice(self) -> Any:
            return self.a * 2

    @dataclass(frozen=True, slots=True)
    class Keywords:
        a: int
        _: KW_ONLY
        b: int
        c: int = 3

    @dataclass(frozen=True, slots=True)
    class Checked:
        a: int

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError(self.a)

    @dataclass(frozen=True, slots=True)
    class Base:
        a: int
        b: int = 2

    @dataclass(frozen=True, slots=True)
    class Derived(Base):
        b: int = 5
        c: int = 7

    @dataclass(frozen=True, slots=True)
    class Of(Generic[T]):
        a: T

    @dataclass(frozen=True, slots=True)
    class OwnMethods:
        a: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self))

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "own"

    @dataclass(frozen=True, slots=True)
    class OwnEquality:
        a: Any

        def __eq__(self, other: object) -> bool:
            return True

    made = locals()
    made.pop("dataclass")
    return made


OURS, THEIRS = shapes(ours), shapes(dataclasses.dataclass)
CALLS: dict[str, list[tuple[tuple, dict]]] = {
    "Empty": [((), {}), ((1,), {})],
    "One": [((1,), {}), ((float("nan"),), {}), (([],), {}), ((), {}), ((1, 2), {}), ((), {"b": 1})],
    "Full": [
        ((1,), {}), ((1, "x", [2], "y", 5, [6], 9), {}), ((1,), {"ignored": 3}), ((), {"a": 2}),
        ((1,), {"unhashed": []}), ((1,), {"c": [1]}), ((1,), {"a": 2}), ((), {}), ((1,), {"z": 1}),
        ((1, "x", (2,)), {"_private": 4}),
    ],
    "Keywords": [((1,), {"b": 2}), ((1,), {}), ((1, 2), {}), ((), {"a": 1, "b": 2, "c": 0})],
    "Checked": [((1,), {}), ((-1,), {})],
    "Base": [((1,), {}), ((1, 5), {})],
    "Derived": [((1,), {}), ((1, 5, 7), {}), ((1, 2), {"c": 9})],
    "Of": [((1,), {}), (("x",), {})],
    "OwnMethods": [((1,), {}), ((2,), {})],
    "OwnEquality": [((1,), {}), (([],), {})],
}  # fmt: skip


def told(action: Callable, *args: Any, **named: Any) -> Any:
    """Return the result, or what was raised; without the words that name the test's function."""
    try:
        return str(action(*args, **named)).replace("<locals>.", "")
    except Exception as error:  # noqa: BLE001 - every error is compared
        return type(error).__name__, str(error).rpartition(".")[2]


@pytest.mark.parametrize("name", CALLS)
def test_instances_behave_the_same(name):
    cls, other = OURS[name], THEIRS[name]
    for args, named in CALLS[name]:
        assert told(cls, *args, **named) == told(other, *args, **named)
    made = [(cls(*args, **named), other(*args, **named)) for args, named in valid(name)]
    for mine, theirs in made:
        for action in (hash, asdict, astuple, copy.copy, copy.deepcopy):
            assert told(action, mine) == told(action, theirs), action
        assert compared(mine) == compared(theirs)
        assert not hasattr(mine, "__dict__")
        for field_name in cls.__match_args__:
            assert told(setattr, mine, field_name, 1) == told(setattr, theirs, field_name, 1)
            assert told(delattr, mine, field_name) == told(delattr, theirs, field_name)
        # The standard library's raises a TypeError here, by accident.
        assert told(setattr, mine, "other", 1)[0] == "FrozenInstanceError"
    equal = [[one == two for one, _ in made] for two, _ in made]
    assert equal == [[one == two for _, one in made] for _, two in made]


def compared(one: Any) -> tuple:
    return one == 1, one != one, one == copy.copy(one), one != copy.copy(one)  # noqa: PLR0124


def valid(name):
    for args, named in CALLS[name]:
        try:
            THEIRS[name](*args, **named)
        except (TypeError, ValueError):
            continue
        yield args, named


@pytest.mark.parametrize("name", CALLS)
def test_classes_describe_themselves_the_same(name):
    cls, other = OURS[name], THEIRS[name]
    cls(*next(valid(name))[0], **next(valid(name))[1])
    shown = ("name", "default", "init", "repr", "compare", "hash", "kw_only")
    mine, theirs = ([[getattr(f, key) for key in shown] for f in fields(c)] for c in (cls, other))
    assert mine == theirs
    assert cls.__slots__ == other.__slots__
    assert cls.__match_args__ == other.__match_args__
    assert cls.__init__.__qualname__.rpartition(".")[2] == "__init__"
    assert cls.__doc__.startswith(other.__doc__.partition("(")[0])


def test_replace_checks_again_and_makes_lists_anew():
    checked = OURS["Checked"](1)
    assert replace(checked, a=2).a == 2
    with pytest.raises(ValueError, match="-1"):
        replace(checked, a=-1)
    full = OURS["Full"]
    assert full(1).c is not full(1).c
    assert "secret" not in repr(full(1))
    assert full(2).twice == 4


def test_a_class_that_contains_itself_can_be_shown():
    one = OURS["One"]([])
    one.a.append(one)
    assert repr(one).endswith("One(a=[...])")


@ours(frozen=True, slots=True)
class Stored:
    a: int
    b: tuple[str, ...] = ()


def test_it_is_pickled_whole():
    stored = Stored(1, ("x",))
    assert pickle.loads(pickle.dumps(stored)) == stored  # noqa: S301 - our own bytes
    with pytest.raises(FrozenInstanceError):
        pickle.loads(pickle.dumps(stored)).a = 2  # noqa: S301 - our own bytes


def test_other_kinds_are_the_standard_librarys():
    @ours(slots=True)
    class Changing:
        a: int = 1

    @ours(frozen=True, slots=True, order=True)
    class Ordered:
        a: int

    changing = Changing()
    changing.a = 2
    assert changing == Changing(2)
    assert Ordered(1) < Ordered(2)


def test_a_field_without_a_parameter_is_refused():
    @ours(frozen=True, slots=True)
    class Odd:
        a: int = field(default=1, init=False)

    with pytest.raises(TypeError, match="a has init=False"):
        Odd()


def test_a_mutable_default_is_refused_at_the_definition():
    with pytest.raises(ValueError, match="mutable default"):

        @ours(frozen=True, slots=True)
        class Bad:
            a: list[int] = []  # noqa: RUF012 - that is the case


COST = """
import sys, time
from {module} import dataclass
def define():
    start = time.process_time()
    for _ in range(100):
        @dataclass(frozen=True, slots=True)
        class Some:
            a: int
            b: str = ""
            c: tuple[str, ...] = ()
    return time.process_time() - start
print(min(define() for _ in range(5)))
"""


def test_a_definition_costs_a_third_at_most():
    spent = [
        float(subprocess.run([sys.executable, "-c", COST.format(module=module)],
                             capture_output=True, text=True, check=True).stdout)
        for module in ("skyflowctl.frozen", "dataclasses")
    ]  # fmt: skip
    assert spent[0] < spent[1] / 3
