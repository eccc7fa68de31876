"""What features.sql may be, and how one file serves both preparation and scoring.

features.sql is one SELECT in DuckDB's dialect that reads from ``landed`` and gives the same result for
the same rows. Where each of its rows is made from one landed row alone it is *row-wise*, and scoring
runs it on raw rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Fault, Rejected

if TYPE_CHECKING:
    from sqlglot import exp

DIALECT = "duckdb"

NOT_ROW_WISE = (
    "it aggregates, joins, sorts or looks at other rows, makes several rows of one or renames columns by their places"
)
"""Why a query without a fault is not row-wise."""

_NOT_REPEATABLE = {
    "random", "rand", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "setseed", "nextval", "currval", "setval",
    "now", "today", "current_date", "current_time", "current_timestamp", "get_current_time",
    "get_current_timestamp", "transaction_timestamp", "localtime", "localtimestamp", "txid_current",
    "current_setting", "getvariable", "current_localtime", "current_localtimestamp", "current_query",
    "current_query_id", "current_transaction_id", "current_connection_id",
}  # fmt: skip
"""Functions whose result depends on the moment or on chance, as the SQL says them."""

_NOT_REPEATABLE_NODES = {
    "Rand", "Randn", "Uuid", "CurrentDate", "CurrentTime", "CurrentTimestamp", "CurrentDatetime", "Localtime",
    "Localtimestamp",
}  # fmt: skip

_UNKNOWN_AGGREGATES = {
    "arbitrary", "arg_max_null", "arg_max_nulls_last", "arg_min_null", "arg_min_nulls_last", "bitstring_agg",
    "combine_aggr", "count_star", "decimal_average", "entropy", "favg", "fsum", "histogram", "histogram_exact",
    "kahan_sum", "kurtosis_pop", "lttb", "mad", "mean", "product", "reservoir_quantile", "sem", "sum_no_overflow",
    "sumkahan", "variant_group_object",
}  # fmt: skip
"""DuckDB's aggregates that sqlglot takes for functions it does not know."""

_SEVERAL_ROWS = {"regexp_split_to_table", "generate_subscripts"}
"""Functions that make several rows of one."""


@dataclass(frozen=True, kw_only=True)
class SqlFacts:
    """``row_wise``: each result row comes from one landed row alone. ``faults``: why the file cannot be used.

    ``reads`` are the landed columns that the query names; None when a ``*`` or a subquery makes that
    unknown.
    """

    row_wise: bool = False
    faults: tuple[Fault, ...] = ()
    reads: frozenset[str] | None = None


def analyse(sql: str, landed: Mapping[str, str] | None = None) -> SqlFacts:
    """Read ``sql`` without running it. ``landed`` maps the landed columns to types, None when unknown.

    Faults name "features.sql:line". A SELECT DISTINCT of a row-wise query counts as row-wise: it
    drops rows and changes none.
    """
    import sqlglot
    from sqlglot import exp

    try:
        statements = [s for s in sqlglot.parse(sql, read=DIALECT) if s is not None]
    except sqlglot.errors.SqlglotError as error:
        detail = (getattr(error, "errors", None) or [{}])[0]
        what = f"not SQL that can be read: {detail.get('description') or error}"
        if detail.get("highlight"):
            what += f" near {detail['highlight']!r}"
        return SqlFacts(faults=(_fault(detail.get("line"), what, "Correct the SQL (DuckDB's dialect)."),))
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        what = f"holds {len(statements)} statements" if len(statements) != 1 else "is not a SELECT"
        return SqlFacts(faults=(_fault(None, what, "Write one SELECT that reads from landed."),))
    query = statements[0]
    faults = [*_source_faults(query), *_repeatable_faults(query)]
    if landed is not None:
        faults += _column_faults(query, landed)
    return SqlFacts(row_wise=not faults and _is_row_wise(query), faults=tuple(faults), reads=_reads(query))


def scoring_sql(sql: str, label: str, key: str) -> str:
    """The query that makes a model's inputs from raw rows, which have no label and need no key.

    It is ``sql`` without the columns ``label`` and ``key`` and without DISTINCT. Parts of its WHERE
    that speak of columns only the label is made of are dropped; the rest stays: a row that it leaves
    out was never trained on, and who runs the query must refuse such a row, never drop it.
    Raises :class:`~shared.errors.Rejected` when ``sql`` is not row-wise.
    """
    from sqlglot import exp

    facts = analyse(sql)
    if not facts.row_wise:
        why = "; ".join(str(f) for f in facts.faults) or NOT_ROW_WISE
        raise Rejected(f"features.sql cannot score raw rows: {why}. Send prepared features instead")
    query = parse(sql)
    query.set("distinct", None)
    explicit = {projection.alias_or_name.lower() for projection in query.expressions}
    from_star = [name for name in (label, key) if name.lower() not in explicit]
    label_columns = {label.lower()}
    kept: list[exp.Expr] = []
    for projection in query.expressions:
        if projection.alias_or_name.lower() == label.lower():
            label_columns |= _names(projection)
        elif projection.alias_or_name.lower() != key.lower():
            kept.append(_without(projection, from_star))
    query.set("expressions", kept)
    where = query.args.get("where")
    if where is not None:
        only_label = label_columns - {name for projection in kept for name in _names(projection)}
        parts = where.this.flatten() if isinstance(where.this, exp.And) else [where.this]
        rest = [part for part in parts if not _names(part) & only_label]
        query.set("where", exp.Where(this=exp.and_(*rest, copy=True)) if rest else None)
    return query.sql(dialect=DIALECT)


def passes_on(sql: str, column: str) -> bool:
    """Whether ``sql`` is row-wise and its result has the landed ``column`` under the same name, unchanged."""
    from sqlglot import exp

    if not analyse(sql).row_wise:
        return False
    wanted = column.lower()
    found = []
    for projection in parse(sql).expressions:
        star = projection.this if isinstance(projection, exp.Column) else projection
        if isinstance(star, exp.Star):
            replaced = {replacement.alias.lower() for replacement in star.args.get("replace") or ()}
            left_out = {name.name.lower() for name in star.args.get("except_") or ()}
            if wanted in replaced or star.args.get("rename"):
                return False
            if wanted not in left_out:
                found.append(True)
        elif projection.alias_or_name.lower() == wanted:
            value = projection.unalias()
            found.append(isinstance(value, exp.Column) and value.name.lower() == wanted)
        elif projection.find(exp.Columns):
            return False
    return found == [True]


def without_distinct(sql: str) -> str:
    """``sql`` without its DISTINCT, word for word where it has none."""
    query = parse(sql)
    if not query.args.get("distinct"):
        return sql.strip().rstrip(";").rstrip()
    query.set("distinct", None)
    return query.sql(dialect=DIALECT)


def parse(sql: str) -> exp.Select:
    """The syntax tree of a query that :func:`analyse` found no fault in."""
    import sqlglot
    from sqlglot import exp

    query = sqlglot.parse_one(sql, read=DIALECT)
    if not isinstance(query, exp.Select):
        raise Rejected("features.sql is not a SELECT. Write one SELECT that reads from landed")
    return query


def _source_faults(query: exp.Select) -> Iterator[Fault]:
    from sqlglot import exp

    known = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    names = []
    for table in query.find_all(exp.Table):
        plain = isinstance(table.this, exp.Identifier) and not table.args.get("db")
        name = table.name.lower() if plain else table.this.sql(dialect=DIALECT)
        names.append(name)
        if name != "landed" and name not in known:
            yield _fault(line_of(table), f"reads from {table.sql(dialect=DIALECT)}", "Read from landed alone.")
    if "landed" not in names:
        yield _fault(None, "does not read from landed", "Write SELECT … FROM landed.")


def _repeatable_faults(query: exp.Select) -> Iterator[Fault]:
    from sqlglot import exp

    for node in query.walk():
        if isinstance(node, exp.TableSample):
            yield _fault(line_of(node), "takes a sample, other rows each time", "Filter by a hash of the key instead.")
        name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
        # With one argument it is the time since then until today.
        until_today = name == "age" and len(node.expressions) == 1
        if until_today or name in _NOT_REPEATABLE or type(node).__name__ in _NOT_REPEATABLE_NODES:
            what = f"uses {node.sql(dialect=DIALECT).lower()}, which gives another result each time"
            yield _fault(line_of(node), what, "Use landed columns only, for example a timestamp that lands.")


def _column_faults(query: exp.Select, landed: Mapping[str, str]) -> Iterator[Fault]:
    from sqlglot import exp

    aliases = {node.alias.lower() for node in query.walk() if isinstance(node, exp.Alias | exp.CTE | exp.Subquery)}
    aliases |= {name.lower() for alias in query.find_all(exp.TableAlias) for name in map(str, alias.columns)}
    aliases |= {parameter.name.lower() for f in query.find_all(exp.Lambda) for parameter in f.expressions}
    known = {name.lower() for name in landed} | aliases
    seen = set()
    for column in query.find_all(exp.Column):
        name = column.name
        if isinstance(column.this, exp.Star) or name.lower() in known or name.lower() in seen:
            continue
        seen.add(name.lower())
        near = difflib.get_close_matches(name, landed, n=1)
        cure = f"Did you mean {near[0]}?" if near else f"The landed columns are {', '.join(landed)}."
        yield _fault(line_of(column), f"there is no landed column {name}", cure)


def _is_row_wise(query: exp.Select) -> bool:
    from sqlglot import exp

    clauses = {name for name, value in query.args.items() if value} - {"expressions", "from_", "where", "distinct"}
    distinct = query.args.get("distinct")
    if clauses or (distinct is not None and distinct.args.get("on")) or len(list(query.find_all(exp.Table))) != 1:
        return False
    # What renames landed columns by their places says nothing of which they are.
    if any(alias.columns for alias in query.find_all(exp.TableAlias)):
        return False
    other_rows = (
        exp.AggFunc, exp.Window, exp.Subquery, exp.Query, exp.Explode, exp.Unnest, exp.GenerateSeries, exp.Pivot,
    )  # fmt: skip
    return not any(
        isinstance(node, other_rows)
        or (isinstance(node, exp.Anonymous) and node.name.lower() in _UNKNOWN_AGGREGATES | _SEVERAL_ROWS)
        for node in query.walk()
        if node is not query
    )


def _reads(query: exp.Select) -> frozenset[str] | None:
    from sqlglot import exp

    if any(isinstance(node, exp.Star | exp.Columns | exp.Query) for node in query.walk() if node is not query):
        return None
    # An alias may carry a column's name, so what only aliases are called may be named here, too.
    return frozenset(column.name for column in query.find_all(exp.Column))


def _names(node: exp.Expr) -> set[str]:
    from sqlglot import exp

    return {column.name.lower() for column in node.find_all(exp.Column) if not isinstance(column.this, exp.Star)}


def _without(projection: exp.Expr, names: list[str]) -> exp.Expr:
    """``projection``, and when it is a ``*`` one that leaves out ``names``."""
    from sqlglot import exp

    star = projection.this if isinstance(projection, exp.Column) else projection
    if isinstance(star, exp.Star):
        lower = {name.lower() for name in names}
        star.set("except_", [*(star.args.get("except_") or []), *(exp.column(name) for name in names)])
        star.set("replace", [r for r in star.args.get("replace") or [] if r.alias.lower() not in lower])
    return projection


def line_of(node: exp.Expr) -> int | None:
    """The line of the first word of ``node``; functions carry none of their own, so what is near says it."""
    place: exp.Expr | None = node
    while place is not None:
        lines = [inner.meta["line"] for inner in place.walk() if "line" in inner.meta]
        if lines:
            return int(min(lines))
        place = place.parent
    return None


def _fault(line: int | None, what: str, cure: str) -> Fault:
    return Fault(f"features.sql:{line or 1}", what, cure)
