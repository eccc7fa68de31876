"""features.sql for Spark: DuckDB's dialect translated to Spark SQL, or refused where that is not proven equal.

sqlglot alone is not enough: some constructs mean something else in silence (a cast to an integer, day
differences, null in concat, where nulls sort) and some fail. So only what is proven is translated,
construct by construct (the modules beside this one), and the rest is a fault with its line and cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import shared.spark.casts
import shared.spark.conditions
import shared.spark.numbers
import shared.spark.texts
import shared.spark.times  # noqa: F401 - each of these modules enters its rules
from shared.errors import Fault
from shared.features.features_sql import line_of, parse
from shared.spark.expressions import RULES, SPARK_TYPES, Translator, Unproven, Value, name_of, quoted
from shared.spark.groups import AGGREGATES, ORDERED_ONLY

if TYPE_CHECKING:
    from sqlglot import exp

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    # Overflows and casts of what does not fit are errors, as in DuckDB.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.legacy.statisticalAggregate": "false",
    "spark.sql.groupByOrdinal": "false",
    # Spark 3 stops at dates before 1582 and times before 1900, because Spark 2 wrote other days for them.
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
}
"""What a Spark session must be set to so that the translation holds."""

PROVEN = frozenset(RULES) | ORDERED_ONLY
"""All constructs that are proven, as sqlglot names them; tests/spark has a case for each."""


@dataclass(frozen=True, kw_only=True)
class SparkSql:
    """``text`` is the query for Spark, empty when there are ``faults``; ``columns`` its columns and their types."""

    text: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def to_spark(sql: str, landed: Mapping[str, str]) -> SparkSql:
    """Translate ``sql``, in which :func:`~shared.features.features_sql.analyse` found no fault.

    ``landed`` maps the landed columns to their types. The query reads from the view ``landed``, gives each
    column as one of the column types, and means what it means in DuckDB, in a session with
    :data:`SETTINGS`; two float sums may differ in their last digits. Faults name "features.sql:line", what
    is not proven, and what to write instead.
    """
    columns = {name: Value("", kind.removesuffix("?")) for name, kind in landed.items()}
    query = _Query({"landed": columns}, [])
    text, found = query.translate(parse(sql))
    if query.faults:
        return SparkSql(faults=tuple(dict.fromkeys(query.faults)))
    kinds = {name: "double" if value.kind == "decimal" else value.kind for name, value in found.items()}
    # Without a zone, as DuckDB's timestamps: they look the same in Parquet.
    types = {**SPARK_TYPES, "timestamp": "TIMESTAMP_NTZ"}
    picked = ", ".join(f"CAST({quoted(n)} AS {types[kind]}) AS {quoted(n)}" for n, kind in kinds.items())
    return SparkSql(text=f"SELECT {picked} FROM ({text})", columns=kinds)


Columns = Mapping[str, Value]
"""Columns of a relation by name, in their order; the text of a value is not used."""


class _Query:
    """One SELECT: the relations that it may read by their names, and the faults found so far."""

    def __init__(self, relations: Mapping[str, Columns], faults: list[Fault]) -> None:
        self._relations = dict(relations)
        self._sources: dict[str, Columns] = {}
        self._aliases: dict[str, Value] = {}
        self.faults = faults

    def translate(self, query: exp.Select) -> tuple[str, dict[str, Value]]:
        """The query's text and columns; what cannot be translated is in :attr:`faults`."""
        ctes = [part for cte in self._ctes(query) if (part := self._cte(cte))]
        source = self._from(query)
        known = {"with_", "expressions", "from_", "joins", "where", "group", "having", "qualify", "distinct", "order"}
        for clause in ("limit", "offset"):
            if query.args.get(clause):
                self._fault(
                    query.args[clause],
                    f"has a {clause.upper()}, whose rows depend on the engine's order",
                    "Filter by a value, or QUALIFY row_number() OVER (… ORDER BY …).",
                )
                known.add(clause)
        for name in {name for name, value in query.args.items() if value} - known:
            self._fault(
                query, f"has a {name.replace('_', ' ').strip()} clause, not proven in Spark", "Write it with CTEs."
            )
        if self.faults:
            return "", {}
        columns, grouping = self._select(query)
        where = self._condition(query, "where", self._resolve)
        group = self._group(query, columns, grouping)
        having = self._condition(query, "having", self._resolve_after)
        qualify = self._condition(query, "qualify", self._resolve_after)
        distinct = "DISTINCT " if query.args.get("distinct") else ""
        if query.args.get("distinct") and query.args["distinct"].args.get("on"):
            self._fault(
                query,
                "uses DISTINCT ON, whose row depends on the engine's order",
                "Write QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) = 1.",
            )
        if not self.faults and not columns:
            self._fault(query, "selects no column", "Select key, label and features.")
        if self.faults:
            return "", columns
        picked = ", ".join(f"{value.text} AS {quoted(name)}" for name, value in columns.items())
        rest = "".join(part for part in (where, group, having) if part)
        text = f"SELECT {distinct if not qualify else ''}{picked} FROM {source}{rest}"
        if qualify:
            names = ", ".join(quoted(name) for name in columns)
            kept = f"SELECT {picked}, {qualify} AS landfall_kept FROM {source}{rest}"
            text = f"SELECT {distinct}{names} FROM ({kept}) WHERE landfall_kept"
        return (f"WITH {', '.join(ctes)} " if ctes else "") + text, columns

    # Relations

    def _ctes(self, query: exp.Select) -> list[exp.CTE]:
        clause = query.args.get("with_")
        if clause is None:
            return []
        if clause.args.get("recursive"):
            self._fault(clause, "has a recursive CTE", "Write it without recursion.")
        return list(clause.expressions)

    def _cte(self, cte: exp.CTE) -> str:
        text, columns = self._nested(cte.this, cte)
        if cte.args["alias"].args.get("columns"):
            self._fault(cte, "names the columns of a CTE", "Name them in its SELECT.")
        self._relations[cte.alias.lower()] = columns
        return f"{quoted(cte.alias)} AS ({text})" if text else ""

    def _nested(self, query: exp.Expr, around: exp.Expr) -> tuple[str, dict[str, Value]]:
        from sqlglot import exp

        if not isinstance(query, exp.Select):
            self._fault(around, "has a part that is no SELECT", "Write one SELECT, without UNION and VALUES.")
            return "", {}
        inner = _Query(self._relations, self.faults)
        return inner.translate(query)

    def _from(self, query: exp.Select) -> str:
        source = self._source(query.args["from_"].this)
        for join in query.args.get("joins") or []:
            source += self._join(join)
        return source

    def _join(self, join: exp.Join) -> str:
        side, kind, on = join.side or "", join.kind or "", join.args.get("on")
        unknown = {name for name, value in join.args.items() if value} - {"this", "side", "kind", "on"}
        if unknown or side not in ("", "LEFT") or kind not in ("", "INNER", "CROSS", "OUTER"):
            self._fault(join, "joins in a way that is not proven in Spark", "Write JOIN or LEFT JOIN … ON ….")
            return ""
        right = self._source(join.this)
        if on is None:
            return f" CROSS JOIN {right}"
        condition = self._boolean(on, self._resolve)
        return f" {'LEFT' if side else 'INNER'} JOIN {right} ON {condition}"

    def _source(self, node: exp.Expr) -> str:
        from sqlglot import exp

        unknown = {name for name, value in node.args.items() if value} - {"this", "alias"}
        alias = node.args.get("alias")
        if unknown or (alias is not None and alias.args.get("columns")):
            self._fault(node, "reads a table in a way that is not proven in Spark", "Write FROM name AS alias.")
            return ""
        if isinstance(node, exp.Subquery):
            text, columns = self._nested(node.this, node)
            name = node.alias or f"landfall_{len(self._sources)}"
            self._sources[name.lower()] = columns
            return f"({text}) AS {quoted(name)}"
        if not isinstance(node, exp.Table) or node.name.lower() not in self._relations:
            self._fault(node, "reads a table in a way that is not proven in Spark", "Read from landed and CTEs.")
            return ""
        name = node.alias or node.name
        self._sources[name.lower()] = self._relations[node.name.lower()]
        return f"{quoted(node.name)} AS {quoted(name)}"

    # Names

    def _column(self, node: exp.Column) -> Value | None:
        """The column of a source, None when none has it. Raises Unproven when it is not clear which."""
        name, table = node.name.lower(), node.table.lower()
        if table and table not in self._sources:
            raise Unproven(node, f"names {node.table}, which is no table here", "Name a table of FROM, or none.")
        found = [
            (source, written, value)
            for source, columns in self._sources.items()
            if not table or source == table
            for written, value in columns.items()
            if written.lower() == name
        ]
        if len(found) > 1:
            raise Unproven(node, f"has {node.name} in more than one table", "Write the table before it.")
        if not found:
            return None
        source, written, value = found[0]
        return Value(f"{quoted(source)}.{quoted(written)}", value.kind, value.digits)

    def _resolve(self, node: exp.Column) -> Value:
        """A column, else what an alias before it stands for: the order in which DuckDB looks in SELECT and WHERE."""
        value = self._column(node) or self._aliases.get(node.name.lower())
        if value is None:
            raise Unproven(node, f"there is no column {node.name}", "Correct the name.")
        return value

    def _resolve_after(self, node: exp.Column) -> Value:
        """In GROUP BY, HAVING and QUALIFY a name must be a column or an alias, or both of the same thing."""
        alias = self._aliases.get(node.name.lower()) if not node.table else None
        column = self._column(node)
        if alias and column and alias.text != column.text:
            raise Unproven(
                node, f"calls two things {node.name}: a column and an expression", "Name the new one differently."
            )
        return self._resolve(node)

    # Clauses

    def _select(self, query: exp.Select) -> tuple[dict[str, Value], list[Value]]:
        """The columns that are selected, and those that GROUP BY ALL groups by."""
        from sqlglot import exp

        columns: dict[str, Value] = {}
        grouping: list[Value] = []
        for projection in query.expressions:
            try:
                for name, value in self._projected(projection):
                    if name.lower() in {known.lower() for known in columns}:
                        raise Unproven(projection, f"gives two columns called {name}", "Name one of them differently.")
                    columns[name] = value
                    if not any(name_of(node) in AGGREGATES for node in projection.walk()):
                        grouping.append(value)
                    if isinstance(projection, exp.Alias):
                        self._aliases[name.lower()] = value
            except Unproven as found:
                self._fault(found.node, found.what, found.cure)
        return columns, grouping

    def _projected(self, projection: exp.Expr) -> Iterable[tuple[str, Value]]:
        from sqlglot import exp

        star = projection.this if isinstance(projection, exp.Column) else projection
        if isinstance(star, exp.Star):
            table = projection.table if isinstance(projection, exp.Column) else ""
            yield from self._star(star, table)
            return
        value = Translator(self._resolve).translate(
            projection.this if isinstance(projection, exp.Alias) else projection
        )
        if value.kind == "null":
            raise Unproven(
                projection, f"gives {projection.alias_or_name}, null in every row", "Leave it out, or cast it."
            )
        name = projection.alias_or_name
        if isinstance(projection, exp.Column):
            # A column without an alias keeps the name that the table gave it.
            name = next(n for columns in self._sources.values() for n in [*columns, name] if n.lower() == name.lower())
        if not name:
            raise Unproven(projection, f"gives {projection.sql(dialect='duckdb')} without a name", "Name it with AS.")
        yield name, value

    def _star(self, star: exp.Star, table: str) -> Iterable[tuple[str, Value]]:
        from sqlglot import exp

        unknown = {name for name, value in star.args.items() if value} - {"except_", "replace"}
        if unknown:
            raise Unproven(star, f"has a * with {', '.join(unknown)}", "Name the columns.")
        left_out = {column.name.lower() for column in star.args.get("except_") or []}
        replaced = {alias.alias.lower(): alias.this for alias in star.args.get("replace") or []}
        if table and table.lower() not in self._sources:
            raise Unproven(star, f"names {table}, which is no table here", "Name a table of FROM.")
        for source, columns in self._sources.items():
            if table and source != table.lower():
                continue
            for name in columns:
                if name.lower() in replaced:
                    yield name, Translator(self._resolve).translate(replaced[name.lower()])
                elif name.lower() not in left_out:
                    yield name, self._resolve(exp.column(name, table=source))

    def _condition(self, query: exp.Select, clause: str, resolve: Callable[[exp.Column], Value]) -> str:
        node = query.args.get(clause)
        if node is None:
            return ""
        text = self._boolean(node.this, resolve)
        return text if clause == "qualify" else f" {clause.upper()} {text}"

    def _boolean(self, node: exp.Expr, resolve: Callable[[exp.Column], Value]) -> str:
        try:
            return Translator(resolve).of(node, "boolean")
        except Unproven as found:
            self._fault(found.node, found.what, found.cure)
            return ""

    def _group(self, query: exp.Select, columns: Mapping[str, Value], grouping: list[Value]) -> str:
        from sqlglot import exp

        group = query.args.get("group")
        if group is None:
            return ""
        unknown = {name for name, value in group.args.items() if value} - {"expressions", "all"}
        if unknown:
            self._fault(group, f"groups by {', '.join(sorted(unknown))}", "Group by columns.")
            return ""
        texts = [value.text for value in grouping] if group.args.get("all") else []
        for node in group.expressions:
            try:
                if isinstance(node, exp.Literal) and node.name.isdecimal() and 0 < int(node.name) <= len(columns):
                    texts.append(list(columns.values())[int(node.name) - 1].text)
                else:
                    texts.append(Translator(self._resolve_after).translate(node).text)
            except Unproven as found:
                self._fault(found.node, found.what, found.cure)
        return f" GROUP BY {', '.join(texts)}" if texts else ""

    def _fault(self, node: exp.Expr, what: str, cure: str) -> None:
        self.faults.append(Fault(f"features.sql:{line_of(node) or 1}", what, cure))
