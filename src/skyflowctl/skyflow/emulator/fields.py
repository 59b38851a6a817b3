"""The fields of a control request: typed, none unknown, or a 400 that says which."""

import json
from datetime import datetime
from typing import Any, TypeVar

from skyflowctl.clock import parse_rfc3339
from skyflowctl.skyflow.emulator.refusal import ExchangeRefusedError

T = TypeVar("T")


class Fields:
    """A JSON object whose fields are taken one by one; :meth:`done` refuses the rest.

    Every method raises :class:`ExchangeRefusedError` (400) for what is of another type.
    """

    def __init__(self, values: object) -> None:
        if not isinstance(values, dict):
            raise ExchangeRefusedError(400, "A JSON object is needed.")
        self._values: dict[str, Any] = dict(values)

    @classmethod
    def parse(cls, raw: bytes) -> "Fields":
        """Read a request's body; an empty one has no fields.

        Raises:
            HttpError: 400, the body is no JSON object.
        """
        try:
            values = json.loads(raw.decode()) if raw else {}
        except (ValueError, RecursionError) as error:
            raise ExchangeRefusedError(400, "The body is no JSON.") from error
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """Take a string."""
        return self._take(name, default, str)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Take a boolean."""
        return self._take(name, default, bool)

    def whole(self, name: str, default: int) -> int:
        """Take an integer."""
        return self._take(name, default, int)

    def number(self, name: str, default: float) -> float:
        """Take a number, whole or not."""
        value = self._values.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ExchangeRefusedError(400, f"The field {name} must be a number.")
        return float(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of strings; none there is an empty one."""
        values: list[Any] = self._take(name, [], list)
        if not all(isinstance(value, str) for value in values):
            raise ExchangeRefusedError(400, f"The field {name} must be a list of strings.")
        return tuple(values)

    def mapping(self, name: str) -> dict[str, Any]:
        """Take an object; none there is an empty one."""
        return self._take(name, {}, dict)

    def text_mapping(self, name: str) -> dict[str, str]:
        """Take an object of strings; none there is an empty one."""
        values = self.mapping(name)
        if not all(isinstance(value, str) for value in values.values()):
            raise ExchangeRefusedError(400, f"The field {name} must be an object of strings.")
        return values

    def moment(self, name: str, default: datetime | None = None) -> datetime | None:
        """Take an RFC 3339 time; null is none."""
        value = self._values.pop(name, default)
        if value is None or isinstance(value, datetime):
            return value
        try:
            return parse_rfc3339(value)
        except (ValueError, TypeError) as error:
            raise ExchangeRefusedError(
                400, f"The field {name} must be an RFC 3339 time."
            ) from error

    def done(self) -> None:
        """Refuse unknown fields."""
        if self._values:
            raise ExchangeRefusedError(400, f"Unknown fields: {', '.join(sorted(self._values))}.")

    def _take(self, name: str, default: T, kind: type[T]) -> T:
        value = self._values.pop(name, default)
        # In Python a boolean is an integer too; in JSON it is not.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ExchangeRefusedError(400, f"The field {name} is of the wrong type.")
        return value
