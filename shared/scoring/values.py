"""Values of a request: whether a model may take them, and as what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from shared.domain.signature import SignatureColumn
from shared.scoring.faults import Faults

HALF = "holds half of a surrogate pair, which is no character"


def valid(
    signature: Iterable[SignatureColumn], columns: Sequence[Sequence[Any]], rows: list[Any] | None = None
) -> list[Any]:
    """Rows of the columns after every value was checked; they are ``rows`` when no value had to be converted.

    Columns of one type are looked at as one, and only if that does not let them pass each for itself.
    """
    alike: dict[tuple[str, bool], list[Any]] = {}
    for column, values in zip(signature, columns, strict=True):
        alike.setdefault((column.type, column.required), []).extend(values)
    if all(fits(type_, required, values) for (type_, required), values in alike.items()):
        return list(zip(*columns, strict=True)) if rows is None else rows
    faults = Faults()
    checked = [check(column, values, faults) for column, values in zip(signature, columns, strict=True)]
    faults.first.sort(key=lambda fault: str(fault.get("row", "")).zfill(6))
    faults.check()
    return list(zip(*checked, strict=True))


def check(column: SignatureColumn, values: Sequence[Any], faults: Faults) -> Sequence[Any]:
    """The values as the model takes them, one by one where something has to be converted or named."""
    if fits(column.type, column.required, values):
        return values
    read = _READ[column.type]
    checked: list[Any] = []
    for i, value in enumerate(values):
        if value is None:
            if column.required:
                faults.add(row=i, column=column.name, value=None, expected=column.type, problem="a value is required")
            checked.append(None)
            continue
        try:
            checked.append(read(value))
        except ValueError as error:
            faults.add(row=i, column=column.name, value=value, expected=column.type, problem=str(error))
    return checked


def fits(type_: str, required: bool, values: Sequence[Any]) -> bool:
    """True when all values are what the model takes: told by the set of their types and one look at all of them."""
    whole = _WHOLE.get(type_)
    if whole is None:
        return False
    kinds = set(map(type, values))
    if not required:
        kinds.discard(type(None))
    return kinds <= whole[0] and whole[1](values)


def _finite(values: Sequence[Any]) -> bool:
    try:
        # One that is not makes the sum so, too.
        return math.isfinite(sum(values))
    except (OverflowError, TypeError):
        return False


def _within(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    return not present or (min(present) >= -(2**63) and max(present) < 2**63)


def encodable(values: Sequence[Any]) -> bool:
    text = "".join(value for value in values if value is not None)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_WHOLE: dict[str, tuple[set[type], Callable[[Sequence[Any]], bool]]] = {
    "string": ({str}, encodable),
    "int": ({int}, _within),
    "double": ({int, float}, _finite),
    "boolean": ({bool}, lambda values: True),
}


def _read_string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(HALF) from error
    return value


def _read_double(value: Any) -> float:
    if type(value) not in (int, float, Decimal):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("is beyond the range of a double") from error
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def _read_int(value: Any) -> int:
    if type(value) not in (int, float, Decimal):
        raise ValueError("must be a whole number")
    if type(value) is not int and (not math.isfinite(value) or value != int(value)):
        raise ValueError("must be a whole number")
    if not -(2**63) <= value < 2**63:
        raise ValueError("is beyond the range of a 64-bit integer")
    return int(value)


def _read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _read_date(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if type(value) is str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            pass
    raise ValueError("must be a date as YYYY-MM-DD")


def _read_timestamp(value: Any) -> str:
    """Timestamps are without a zone in the features; one that has a zone is turned into UTC."""
    moment = value if isinstance(value, datetime) else None
    if type(value) is str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if moment is None:
        raise ValueError("must be a time as in 2024-05-31T12:30:00 (UTC, or with an offset)")
    try:
        return (moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment).isoformat()
    except OverflowError as error:
        raise ValueError("is beyond the calendar") from error


def _read_any(value: Any) -> Any:
    if type(value) in (int, float):
        _read_double(value)
        return value
    if type(value) is bool:
        return value
    return _read_string(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "string": _read_string,
    "int": _read_int,
    "double": _read_double,
    "boolean": _read_boolean,
    "date": _read_date,
    "timestamp": _read_timestamp,
    "any": _read_any,
}
