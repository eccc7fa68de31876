"""`landfall new`: from any table to a working pipeline folder, with every decision in words."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landfall.check import check
from landfall.scaffold_files import environment_yml, features_sql, pipeline_yaml, train_py
from landfall.table import Column, Table, quoted
from shared.definitions.typed_yaml import nearest
from shared.domain.pipelines import NAME
from shared.domain.split import sql_condition
from shared.errors import ConfigurationError, Fault
from shared.features.landed_rows import is_reserved

MIN_ROWS = 50
NUMBER_CLASSES = 10
"""A label of whole numbers with at most so many values is a class, with more a quantity."""
TEXT_CLASSES = 50
CATEGORIES = 50
"""A text column with more values than this, most of them rare, says little: see :func:`_text`."""
WHOLE = 1e15
SHARES = (0.2, 0.3, 0.4)
TOLD = 0.99
"""A single column that tells so much of the label is suspected to be made from it."""
YES = ("yes", "true", "1", "y", "t", "positive", "1.0")

_REMARKS = {
    "comma": "numbers with a decimal comma, which features.sql reads",
    "either": "1,234 may be 1234 or 1.234: nothing here tells which; features.sql reads 1234",
    "mixed": "some numbers have a decimal comma, some a point: write all in one way",
}
EITHER = "; no value tells whether its comma is one of thousands or of decimals: 1,234 is read as 1234"

_ID_NAME = re.compile(r"(^|[ _-])(id|key|uuid|guid|number|nr|no|code|ref|reference|email)$")
_DAY = "date_diff('day', date '2000-01-01', {})"


@dataclass(frozen=True)
class Feature:
    """One line of features.sql: ``expression`` as ``name``, and why."""

    expression: str
    name: str
    note: str = ""
    categories: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that was decided; the files are written from it.

    ``task`` is binary, classes or numbers; ``landed`` maps columns to declared types, ``remarks`` some of
    them to what to know of their values; ``checks`` are YAML values of one check each; ``where`` is a
    condition for rows, empty for all.
    """

    name: str
    source: str
    format: str
    task: str
    key: Feature
    label: Feature
    features: tuple[Feature, ...]
    landed: dict[str, str]
    remarks: dict[str, str]
    checks: tuple[dict[str, Any], ...]
    keep: str
    distinct: bool
    row_wise: bool
    where: str
    test_share: float
    positive: Any
    rows: int


@dataclass(frozen=True)
class Scaffolded:
    """The new folder, what was decided and what to look at, in sentences."""

    folder: Path
    decisions: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass
class _Notes:
    decisions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def new(root: Path, name: str, data: Path, label: str, key: str | None = None) -> Scaffolded:
    """Make the pipeline ``name`` below ``root`` that predicts the column ``label`` of the table ``data``.

    The table is a csv, parquet or json lines file. ``key`` names the column that tells rows apart;
    without it one is found or made. Raises :class:`~shared.errors.ConfigurationError` with every
    reason why it cannot be done; then nothing was written.
    """
    faults = _name_faults(root, name)
    try:
        table = Table(data)
    except ConfigurationError as error:
        raise ConfigurationError([*faults, *error.faults]) from error
    notes = _Notes()
    try:
        plan = _plan(table, name, data.name, label, key, faults, notes)
    finally:
        table.connection.close()
    return Scaffolded(_write(root, plan), tuple(notes.decisions), tuple(notes.warnings))


def _name_faults(root: Path, name: str) -> list[Fault]:
    if not NAME.fullmatch(name):
        cure = "Take 3 to 32 lower-case letters, digits and dashes, a letter first."
        return [Fault("NAME", f"{name!r} is no name of a pipeline", cure)]
    if (root / name).exists():
        return [Fault("NAME", f"the folder {root.name}/{name} exists", "Take another name, or remove the folder.")]
    return []


def _plan(
    table: Table, name: str, source: str, label: str, key: str | None, faults: list[Fault], notes: _Notes
) -> Plan:
    for option, column in (("--label", label), ("--key", key)):
        if column is not None and column not in table.types:
            faults.append(Fault(option, f"{source} has no column {column!r}", nearest(column, table.types)))
    if key == label:
        faults.append(Fault("--key", f"{label!r} is the label, too", "Name another column, or leave --key out."))
    faults += [
        Fault(source, f"the name of column {column!r} holds a control character", "Rename it.")
        for column in table.types
        if re.search(r"[\x00-\x1f\x7f]", column)
    ]
    if key is not None and key in table.types:
        faults += _key_faults(table, key)
    if label not in table.types:
        raise ConfigurationError(faults)
    rows = table.choose_label(label)
    if rows < MIN_ROWS:
        what = f"{rows} rows of {source} have a {label}; fewer than {MIN_ROWS} teach and prove nothing"
        faults.append(Fault(source, what, "Give more rows."))
    columns = {column: table.column(column) for column in table.types}
    task = _task(columns[label], rows, faults)
    if faults:
        raise ConfigurationError(faults)

    names = _Names()
    unlabelled = table.rows - rows
    notes.decisions.append(f"read {table.rows:,} rows and {len(columns)} columns of {source} ({table.format})")
    if unlabelled:
        notes.decisions.append(f"{label}: {unlabelled:,} rows have no label and are left out")
    label_feature = _label(columns[label], task, names)
    classes = table.values(label, TEXT_CLASSES + 1) if task != "numbers" else []
    positive = _positive(classes, label_feature) if task == "binary" else None
    _say_task(notes, columns[label], task, classes, positive)
    chosen = key or _find_key(columns, label, rows)
    key_feature, keep, distinct, row_wise = _key(table, columns, chosen, key is not None, rows, names, notes)
    features, used = _features(table, columns, label, chosen, rows, names, notes)
    if not features:
        what = f"no column of {source} but {label} tells anything about a row"
        raise ConfigurationError([Fault(source, what, "Give columns that differ between rows.")])
    _warn_of_leaks(table, features, label, task, classes, rows, notes)
    if not chosen:
        used |= {column for column in columns if columns[column].present}
    landed = {column: _declared(columns[column]) for column in columns if column in used or column in (label, chosen)}
    return Plan(
        name=name,
        source=source,
        format=table.format,
        task=task,
        key=key_feature,
        label=label_feature,
        features=tuple(features),
        landed=landed,
        remarks={column: _REMARKS[how] for column in landed if (how := columns[column].decimals) in _REMARKS},
        checks=tuple(_checks(columns, landed, label, chosen, classes, table.rows)),
        keep=keep,
        distinct=distinct,
        row_wise=row_wise,
        where=f"{quoted(label)} is not null" if columns[label].nulls else "",
        test_share=_test_share(table, key_feature, label, classes, notes),
        positive=positive,
        rows=rows,
    )


def _key_faults(table: Table, key: str) -> list[Fault]:
    column = quoted(key)
    present, distinct = table.row(f"SELECT count({column}), count(DISTINCT {column}) FROM landed")
    faults = []
    if present < table.rows:
        what = f"{key!r} is empty in {table.rows - present:,} of {table.rows:,} rows"
        faults.append(Fault("--key", what, "Name a column that every row has, or leave --key out."))
    if distinct < present:
        what = f"{key!r} is not unique: {present - distinct:,} of {present:,} rows repeat a value"
        faults.append(Fault("--key", what, "Name a column that tells rows apart, or leave --key out."))
    return faults


def _task(label: Column, rows: int, faults: list[Fault]) -> str:
    """binary, classes or numbers; what cannot be predicted is a fault."""
    where = f"--label {label.name}"
    if label.infinite:
        what = f"{label.infinite:,} rows hold NaN or infinity"
        faults.append(Fault(where, what, "Leave those values empty: such rows are then left out."))
    if rows and label.distinct < 2:
        what = f"all {rows:,} rows have the same value: there is nothing to learn"
        faults.append(Fault(where, what, "Give rows of at least two kinds."))
    if label.kind in ("date", "timestamp"):
        faults.append(Fault(where, f"is a {label.kind}", "Predict a text, a yes or no, or a number."))
    if label.kind == "string" and label.distinct > min(TEXT_CLASSES, max(2, rows // 10)):
        what = f"has {label.distinct:,} different texts in {rows:,} rows, too many for classes"
        cure = "Name a column with few values, or group them before."
        if label.decimals:
            cure = "To predict a number, write it plainly: 1234.5, with a point, no thousands marks and no signs."
        faults.append(Fault(where, what, cure))
    if label.kind in ("string", "boolean"):
        return "binary" if label.distinct == 2 else "classes"
    whole = label.kind == "int" or (label.low is not None and label.distinct <= NUMBER_CLASSES)
    if not whole or label.distinct > NUMBER_CLASSES:
        return "numbers"
    return "binary" if label.distinct == 2 else "classes"


class _Names:
    """Names of result columns: plain words, unique without regard to case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str, *, exact: bool = False) -> str:
        plain = name if exact else re.sub(r"\W+", "_", name).strip("_") or "column"
        if is_reserved(plain):
            plain = f"x_{plain}"
        found, n = plain, 2
        while found.lower() in self._taken:
            found, n = f"{plain}_{n}", n + 1
        self._taken.add(found.lower())
        return found


def _label(label: Column, task: str, names: _Names) -> Feature:
    name, column = names.take(label.name), quoted(label.name)
    if label.kind == "boolean":
        return Feature(f"cast({column} as varchar)", name, "label, as the text true or false")
    if task != "numbers" and label.kind == "double":
        return Feature(f"cast({column} as bigint)", name, "label")
    return Feature(column, name, "label")


def _say_task(notes: _Notes, label: Column, task: str, classes: Sequence[tuple[Any, str, int]], positive: Any) -> None:
    if task == "numbers":
        bounds = f"{label.low:g} to {label.high:g}"
        notes.decisions.append(
            f"{label.name}: a quantity ({label.distinct:,} numbers, {bounds}): regression, judged by rmse"
        )
        return
    shown = ", ".join(f"{text} ({count:,})" for _, text, count in classes[:5]) + (", …" if len(classes) > 5 else "")
    metric = "roc_auc" if task == "binary" else "balanced_accuracy"
    looked_for = f"; {positive} is the class looked for (gate.positive)" if positive is not None else ""
    notes.decisions.append(
        f"{label.name}: {label.distinct} classes, {shown}: classification, judged by {metric}{looked_for}"
    )


def _find_key(columns: dict[str, Column], label: str, rows: int) -> str | None:
    """A column that every row has, that is unique and that looks like an identifier."""
    unique = [
        column
        for column in columns.values()
        if column.name != label and column.kind in ("string", "int") and column.present == column.distinct == rows
        and not column.nulls
    ]  # fmt: skip
    named = [column.name for column in unique if _id_like(column.name)]
    texts = [column.name for column in unique if column.kind == "string" and not column.spaced]
    return next(iter(named + texts), None)


def _id_like(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower().strip()
    return bool(_ID_NAME.search(words))


def _key(
    table: Table, columns: dict[str, Column], chosen: str | None, given: bool, rows: int, names: _Names, notes: _Notes
) -> tuple[Feature, str, bool, bool]:
    """The key, landing.keep, whether identical rows are merged, and whether features.sql stays row-wise."""
    if chosen:
        found = "" if given else ", found because it is unique, never empty and looks like an identifier"
        notes.decisions.append(
            f"{chosen}: the key{found}; a row that lands again with the same key replaces the older one"
        )
        return Feature(quoted(chosen), names.take(chosen, exact=True), "key"), "latest", False, True
    telling = [column.name for column in columns.values() if column.present]
    parts = "".join(f",\n        coalesce({text}, '')" for column in telling for text in _as_texts(columns[column]))
    name = names.take("row_key")
    # chr(31) is the separator that no text of a table holds.
    made = f"md5(concat_ws(chr(31){parts}\n    ))"
    copies = table.repeated(telling)
    what = f"{name}: no column is a key, so one is made from a hash of all columns"
    if copies <= rows // 10:
        notes.decisions.append(f"{what}; identical rows would share it, so they count once ({copies:,} copies here)")
        return Feature(made, name, "key: no column is unique"), "all", True, True
    numbered = f"{made} || '-' || cast(row_number() over (partition by {made} order by {made}) as varchar)"
    notes.decisions.append(f"{what} and a number among identical rows, of which there are many ({copies:,} copies)")
    notes.warnings.append(
        "features.sql looks at other rows to number identical ones, so scoring takes the columns that it gives,"
        " not landed rows. Name a --key to have both"
    )
    return Feature(numbered, name, "key: identical rows are numbered"), "all", False, False


def _as_texts(column: Column) -> list[str]:
    """The texts that stand for a value in a hash: the same in every engine, which the text of a double is not."""
    name = quoted(column.name)
    if column.kind != "double" or column.infinite:
        return [name if column.kind == "string" else f"cast({name} as varchar)"]
    size = max(abs(column.low or 0), abs(column.high or 0))
    # Brought below 1e15 the whole part is a BIGINT with room for what lands later; 1e18 keeps all of a fraction.
    scaled = name if size < WHOLE else f"({name} / 1e{math.ceil(math.log10(size)) - 15})"
    whole = f"trunc({scaled})"
    return [f"cast(cast({part} as bigint) as varchar)" for part in (whole, f"({scaled} - {whole}) * 1e18")]


def _features(
    table: Table, columns: dict[str, Column], label: str, key: str | None, rows: int, names: _Names, notes: _Notes
) -> tuple[list[Feature], set[str]]:
    """The features, and the landed columns that they are made of."""
    features: list[Feature] = []
    used: set[str] = set()
    for column in columns.values():
        if column.name in (label, key):
            continue
        made, why = _made_of(column, rows, names)
        if why:
            notes.decisions.append(f"{column.name}: {why}")
        if made:
            used.add(column.name)
            features += made
    numbers = sum(not f.categories for f in features)
    notes.decisions.append(f"{len(features)} features: {numbers} of numbers, {len(features) - numbers} of categories")
    return features, used


def _made_of(column: Column, rows: int, names: _Names) -> tuple[list[Feature], str]:
    """The features made of a column, and what is worth saying about it."""
    quoted_name = quoted(column.name)
    if column.present == 0:
        return [], "left out: it is always empty"
    if column.distinct == 1 and column.present == rows:
        return [], "left out: it always has the same value"
    if column.kind == "string":
        return _text(column, names)
    if column.kind == "boolean":
        return [Feature(f"cast({quoted_name} as int)", names.take(column.name), "1 is true")], ""
    if column.kind in ("date", "timestamp"):
        return _moments(column, names), "becomes days since 2000-01-01, month and weekday" + (
            ", and hour" if column.timed else ""
        )
    if column.counter and column.present == rows:
        return [], "left out: it only numbers the rows"
    if column.kind == "int" and column.distinct == column.present and _id_like(column.name):
        return [], "left out: it is an identifier"
    if column.infinite:
        number = f"try_cast({quoted_name} as double)"
        note = f"{column.infinite:,} values are NaN or infinite: they count as missing"
        made = f"case when abs({number}) < 1e308 then {number} end"
        return [Feature(made, names.take(column.name), "NaN and infinity count as missing")], note
    return [Feature(quoted_name, names.take(column.name))], ""


def _text(column: Column, names: _Names) -> tuple[list[Feature], str]:
    quoted_name = quoted(column.name)
    many = column.distinct > CATEGORIES
    decimals = column.decimals
    hint = ""
    if decimals == "mixed":
        hint = (
            f"; {column.only_comma:,} of its numbers have a decimal comma and {column.only_pointed:,} a point:"
            " write all in one way to make it a number"
        )
    if column.dated >= 0.9 * column.present:
        hint = "; they look like dates: written as 2024-03-14 they would give days, month and weekday"
    if decimals == "comma":
        made = f"try_cast(replace(regexp_replace({quoted_name}, '[$€£.% ]', '', 'g'), ',', '.') as double)"
        note = "a number with a decimal comma, once currency signs, % and thousands points are taken off"
        misfits = column.present - column.comma
        return [
            Feature(made, names.take(column.name), note)
        ], f"{note}; other texts count as missing ({misfits:,} here)"
    if column.plain >= 0.9 * column.present and column.distinct > NUMBER_CLASSES:
        misfits = column.present - column.plain
        made = f"case when abs(try_cast({quoted_name} as double)) < 1e308 then try_cast({quoted_name} as double) end"
        note = "text that holds numbers; other texts count as missing"
        return [Feature(made, names.take(column.name), note)], f"{note} ({misfits:,} here){hint}"
    if decimals in ("point", "either") and column.distinct > NUMBER_CLASSES:
        made = f"try_cast(regexp_replace({quoted_name}, '[$€£,% ]', '', 'g') as double)"
        note = "a number once currency signs, % and thousands commas are taken off"
        if decimals == "either":
            note += EITHER
        return [Feature(made, names.take(column.name), note)], note
    if many and column.distinct > 0.5 * column.present:
        return [], f"left out: {column.distinct:,} different texts in {column.present:,} rows, nearly one each{hint}"
    why = f"{column.distinct:,} different texts, of which train.py tells the 30 most frequent apart" if many else ""
    if hint:
        why = f"{why or 'a category'}{hint}"
    return [Feature(quoted_name, names.take(column.name), why, categories=True)], why


def _moments(column: Column, names: _Names) -> list[Feature]:
    moment = quoted(column.name)
    day = _DAY.format(moment if column.kind == "date" else f"cast({moment} as date)")
    # 2000-01-01 was a Saturday; the remainder of a negative number is negative.
    weekday = f"(({day} + 5) % 7 + 7) % 7"
    made = [
        Feature(day, names.take(f"{column.name}_days"), "days since 2000-01-01"),
        Feature(f"month({moment})", names.take(f"{column.name}_month")),
        Feature(weekday, names.take(f"{column.name}_weekday"), "0 is Monday"),
    ]
    return [*made, Feature(f"hour({moment})", names.take(f"{column.name}_hour"))] if column.timed else made


def _warn_of_leaks(
    table: Table,
    features: Iterable[Feature],
    label: str,
    task: str,
    classes: Sequence[tuple[Any, str, int]],
    rows: int,
    notes: _Notes,
) -> None:
    commonest = classes[0][2] / rows if classes else 0.0
    for feature in features:
        if feature.categories or task != "numbers":
            (distinct,) = table.row(f"SELECT count(DISTINCT {feature.expression}) FROM usable")
            categories = feature.categories or distinct <= 20
            if categories and distinct > rows / 20:
                continue
        else:
            categories = False
        told = table.told_by(feature.expression, label, classes=task != "numbers", categories=categories)
        if told >= TOLD + (1 - TOLD) * commonest:
            notes.warnings.append(
                f"{feature.name} alone tells {told:.1%} of {label}. If it is known only after {label} is, "
                "it leaks: remove its line from features.sql"
            )


def _declared(column: Column) -> str:
    kind = "string" if column.infinite else column.kind
    return f"{kind}?" if column.nulls else kind


def _checks(
    columns: dict[str, Column],
    landed: dict[str, str],
    label: str,
    key: str | None,
    classes: Sequence[tuple[Any, str, int]],
    rows: int,
) -> Iterable[dict[str, Any]]:
    """Rules that this table keeps with room to spare."""
    for name, declared in landed.items():
        column = columns[name]
        if name == key:
            yield {"column": name, "unique": True}
            continue
        check: dict[str, Any] = {}
        missing = column.nulls / rows
        if name != label and declared.endswith("?") and 2 * missing + 0.1 < 1:
            check["max_null_share"] = math.ceil(100 * (2 * missing + 0.1)) / 100
        if name == label and classes:
            check["allowed"] = sorted(text for _, text, _ in classes)
        elif declared.removesuffix("?") in ("int", "double") and column.low is not None and column.high is not None:
            check["between"] = _room(column.low, column.high)
        if check:
            yield {"column": name, **check}


def _room(low: float, high: float) -> tuple[float, float]:
    """Bounds twice the width of the range away from it, rounded outwards; never negative stays so, 0 to 1 stays."""
    if (low, high) == (0, 1):
        return 0.0, 1.0
    width = 2 * ((high - low) or abs(high) or 1)
    lowest = 0.0 if low >= 0 else _rounded(low - width, math.floor)
    highest = 0.0 if high <= 0 and low < 0 else _rounded(high + width, math.ceil)
    return lowest, highest


def _rounded(value: float, direction: Any) -> float:
    """``value`` with two digits, rounded in ``direction``."""
    if value == 0 or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    found = float(f"{direction(value / step) * step:.3g}") if step else value
    return found if math.isfinite(found) else value


def _test_share(
    table: Table, key: Feature, label: str, classes: Sequence[tuple[Any, str, int]], notes: _Notes
) -> float:
    """The smallest share of held-out rows with which every class is on both sides, at least twice."""
    if not classes:
        return SHARES[0]
    for share in SHARES:
        held_out = f"count_if({sql_condition('k', share)})"
        source = f"SELECT {key.expression} AS k, {quoted(label)} AS y FROM usable"
        counts = f"SELECT {held_out} AS test, count(*) - {held_out} AS train FROM ({source}) GROUP BY y"
        (fewest,) = table.row(f"SELECT min(least(test, train)) FROM ({counts})")
        if fewest >= 2:
            if share != SHARES[0]:
                notes.decisions.append(f"{share:.0%} of the rows are held out, so that every class is among them")
            return share
    _, text, count = classes[-1]
    notes.warnings.append(
        f"the class {text} of {label} has only {count:,} rows, too few for both training and the held-out rows:"
        " more of them, or one class less, would make the verdict sounder"
    )
    return SHARES[0]


def _positive(classes: Sequence[tuple[Any, str, int]], label: Feature) -> Any:
    """The class that is looked for: yes where there is one, else the rarer."""
    affirmed = [value for value, text, _ in classes if text.lower() in YES]
    found = affirmed[0] if affirmed else classes[-1][0]
    if isinstance(found, bool):
        return str(found).lower()
    return int(found) if isinstance(found, float) else found


def _write(root: Path, plan: Plan) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    folder = root / plan.name
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as draft:
        part = Path(draft) / plan.name
        part.mkdir()
        for file, content in (
            ("features.sql", features_sql(plan)),
            ("train.py", train_py(plan)),
            ("environment.yml", environment_yml(plan)),
            ("pipeline.yaml", pipeline_yaml(plan)),
        ):
            (part / file).write_text(content, encoding="utf-8")
        part.rename(folder)
    if faults := check(root, [plan.name]):
        # Another pipeline has the landing folder or the endpoint.
        shutil.rmtree(folder)
        raise ConfigurationError(faults)
    return folder
