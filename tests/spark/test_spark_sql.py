"""What is translated means the same on both engines, on awkward rows; the rest is refused with line and cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlglot

from shared.features.features_sql import DIALECT
from shared.settings import ROOT
from shared.spark.expressions import name_of
from shared.spark.query import PROVEN, to_spark
from tests.spark.engines import LANDED, Engines, awkward_rows, same

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark")

EXPRESSIONS = """
i
1
-5
1.5
0.1 + 0.2
1e3
'it''s'
'back\\slash'
true
CAST(NULL AS DOUBLE)
(i)
i + j
i - j
j * n
i + 1
-i
- x
x + y
x - 0.1
x * 0.1
j * 0.1
j * 0.1 + 0.2
j - 1.5
-(j * 0.5)
i + x
i / j
x / y
x / j
1 / j
j / 4.0
1.0 / 3.0
0 / j
i // j
-7 // 2
i // 2 // 3
i * 2 // 3
2 * i % 7
i % j
-7 % 3
i % 3
x % 2.5::DOUBLE
x % j
mod(i, j)
abs(i)
abs(x)
sign(i)
sign(x)
ceil(x)
floor(x)
trunc(x)
ceil(i)
floor(j)
round(x)
round(x, 2)
round(x, 0)
round(-x, 3)
round(i)
round(i, 2)
round(x * 1.0::DOUBLE, 5)
sqrt(p)
exp(j)
ln(p)
log(p)
log10(p)
log2(p)
pow(p, j)
p ** 2
p ^ 0.5
-2 ** 2
2 ** 3 ** 2
isnan(x)
isinf(x)
isfinite(x)
isnan(x * 1e308 * 1e308 - x * 1e308 * 1e308)
isinf(x * 1e308 * 1e308)
isfinite(x * 1e308 * 1e308)
greatest(i, j, n)
greatest(x, y)
greatest(x, i)
greatest(s, t)
greatest(d, e)
greatest(d, ts)
greatest(j, 1)
greatest(x, 0)
greatest(x, 0.5)
least(i, j, n)
least(s, t)
least(j, 0.5)
coalesce(i, j)
coalesce(x, 0)
coalesce(x, 0.0)
coalesce(j, 0.5)
coalesce(s, t, 'none')
coalesce(d, e)
coalesce(d, DATE '2024-01-01')
coalesce(d, ts)
ifnull(x, -1)
nullif(i, j)
nullif(x, 0)
nullif(s, '')
if(b, i, j)
if(i > 0, 'pos', 'other')
if(b, i, 0.5)
CASE WHEN i > 0 THEN 'a' WHEN i < 0 THEN 'b' END
CASE WHEN x > 0.5 THEN 1 ELSE 0 END
CASE WHEN b THEN 1 ELSE 0.5 END
CASE word WHEN 'Yes' THEN 1 WHEN 'No' THEN 0 END
CASE j WHEN 1 THEN d WHEN 2 THEN e END
CASE WHEN b THEN d ELSE ts END
CASE WHEN b THEN NULL ELSE x END
b AND c
b OR c
NOT b
NOT i > 0
NOT b = c
i = j
i <> j
i != j
i < j
i <= j
i > j
i >= j
x = y
x < y
x = i
x > 0.3
x = 0.1
j > 0.5
j * 0.1 = 0.3
x * 3 = 0.3
x * 1e308 * 1e308 > 5
s = t
s < t
s >= 'a'
b = c
d = e
d < e
d >= '2024-01-01'
ts > '2024-03-01 00:00:00'
ts >= '2024-03-01'
d < ts
d BETWEEN '1970-01-01' AND '2024-01-01'
i BETWEEN -5 AND 5
x BETWEEN 0 AND 1.5
i NOT BETWEEN j AND n
i IN (1, 2, 7)
i IN (1, NULL)
i NOT IN (1, 2)
i NOT IN (1, NULL)
x IN (1, 0.5)
s IN ('a', 'abc')
i IS NULL
i IS NOT NULL
b IS TRUE
b IS NOT FALSE
i IS DISTINCT FROM j
i IS NOT DISTINCT FROM j
s || t
s || i
s || d
s || b
concat(s, t)
concat(s, '-', i)
concat_ws('-', s, t)
concat_ws(',', word, i, grp)
concat_ws(chr(31), s, cast(ts as varchar), b)
chr(31) || s
lower(s)
upper(s)
upper(word) = 'YES'
trim(s)
ltrim(s)
rtrim(s)
length(s)
len(s)
substring(s, 2, 3)
substr(s, 2)
substring(s, 1, 0)
left(s, 2)
right(s, 2)
left(s, 0)
right(s, 0)
replace(s, 'a', 'x')
replace(s, 'a', '')
replace(s, '\\', '/')
starts_with(s, 'a')
ends_with(s, 'c')
prefix(s, t)
suffix(s, t)
contains(s, 'b')
contains(s, t)
s LIKE 'a%'
s LIKE '%a%'
s LIKE '_b_'
s LIKE '%'
s NOT LIKE 'a%'
NOT s LIKE 'a%'
s ILIKE 'A%'
strpos(s, 'b')
instr(s, 'b')
position('b' IN s)
lpad(s, 5, '*')
rpad(s, 5, 'xy')
split_part(s, '-', 1)
split_part(s, '-', 2)
split_part(s, '-', 9)
md5(s)
md5(word) < '8'
regexp_matches(s, 'b')
regexp_matches(s, '^[a-z]+$')
regexp_matches(s, '^a.b$')
regexp_matches(s, 'x.y')
regexp_matches(s, 'x$')
regexp_matches(s, '\\d+')
regexp_matches(s, '^\\w*$')
regexp_matches(s, 'a|b')
s ~ '[a-z]'
regexp_full_match(s, '[a-z ]*')
regexp_full_match(s, 'a|abc')
regexp_extract(s, '[a-z]+')
regexp_extract(s, '([0-9]+)[a-z]+([0-9]+)', 2)
regexp_extract(s, '[0-9]{2}')
regexp_replace(s, '[a-c]', '-', 'g')
regexp_replace(s, ' +', '', 'g')
regexp_replace(s, '[$€£,% ]', '', 'g')
try_cast(replace(regexp_replace(num, '[$€£.% ]', '', 'g'), ',', '.') as double)
CAST(i AS VARCHAR)
CAST(b AS VARCHAR)
CAST(d AS VARCHAR)
CAST(ts AS VARCHAR)
CAST(s AS VARCHAR)
CAST(j AS INTEGER)
j::SMALLINT
TRY_CAST(i AS INTEGER)
TRY_CAST(i AS TINYINT)
CAST(b AS INTEGER)
b::INT + 1
TRY_CAST(x AS INTEGER)
CAST(x AS BIGINT)
CAST(p AS INTEGER)
(x / 1e9)::INTEGER
TRY_CAST(num AS BIGINT)
TRY_CAST(num AS INTEGER)
TRY_CAST(num AS DOUBLE)
coalesce(TRY_CAST(num AS DOUBLE), 0.0)
CAST(i AS DOUBLE)
CAST(0.1 AS DOUBLE)
0.5::DOUBLE * j
CAST(b AS DOUBLE)
CAST(i AS BOOLEAN)
CAST(ts AS DATE)
ts::DATE
CAST(d AS TIMESTAMP)
DATE '2024-02-29'
TIMESTAMP '2024-02-29 10:00:00.5'
CAST(CAST(d AS VARCHAR) AS DATE)
CAST(CAST(ts AS VARCHAR) AS TIMESTAMP)
year(d)
month(d)
day(d)
quarter(d)
year(ts)
month(ts)
day(ts)
hour(ts)
minute(ts)
second(ts)
hour(d)
dayofmonth(d)
dayofweek(d)
weekday(d)
isodow(d)
isodow(ts)
dayofyear(d)
week(d)
weekofyear(ts)
extract(dow FROM d)
extract(year FROM ts)
extract(second FROM ts)
extract(doy FROM d)
extract(isodow FROM d)
extract(week FROM d)
extract(epoch FROM ts)
date_part('month', ts)
date_part('dow', d)
epoch(ts)
epoch(d)
date_trunc('month', d)
date_trunc('year', ts)
date_trunc('quarter', ts)
date_trunc('week', ts)
date_trunc('day', ts)
date_trunc('hour', ts)
date_trunc('minute', ts)
date_trunc('second', ts)
date_trunc('month', ts)::DATE
date_trunc('month', CAST(ts AS DATE))
date_diff('day', d, e)
date_diff('day', ts, till)
datediff('day', d, ts)
date_diff('month', d, e)
date_diff('month', ts, till)
date_diff('year', ts, till)
date_diff('hour', ts, till)
date_diff('minute', ts, till)
date_diff('second', ts, till)
date_diff('hour', d, e)
d - e
d + 7
d - 30
d - j::INTEGER
d - INTERVAL 3 DAY
d - INTERVAL 1 MONTH
ts - INTERVAL 1 YEAR
ts - INTERVAL 2 WEEK
ts + INTERVAL 36 HOUR
ts + INTERVAL '90' MINUTE
ts - INTERVAL 5 SECOND
CASE WHEN d < '3000-01-01' THEN d + INTERVAL 1 MONTH END
last_day(d)
last_day(ts)
make_date(2024, 2, j * 0 + 29)
MixedCase + mixedcase
"order"
LENGTH("ORDER")
CASE WHEN i > 0 THEN 'A' ELSE 'B' END || s
coalesce(nullif(trim(s), ''), 'empty')
round(x / nullif(j, 0), 2)
(i IS NULL)::INT + (j IS NULL)::INT
row_number() OVER (PARTITION BY grp ORDER BY x, id)
rank() OVER (PARTITION BY grp ORDER BY x)
dense_rank() OVER (PARTITION BY grp ORDER BY x DESC)
rank() OVER (ORDER BY s NULLS FIRST)
percent_rank() OVER (ORDER BY i)
cume_dist() OVER (PARTITION BY grp ORDER BY i DESC)
ntile(4) OVER (ORDER BY id)
lag(x) OVER (PARTITION BY grp ORDER BY id)
lag(i, 2, 0) OVER (PARTITION BY grp ORDER BY id)
lead(s, 1, 'none') OVER (PARTITION BY grp ORDER BY ts, id)
first_value(x) OVER (PARTITION BY grp ORDER BY d DESC, id)
last_value(x) OVER (PARTITION BY grp ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
count(*) OVER (PARTITION BY grp)
count(x) OVER (PARTITION BY grp)
count(*) FILTER (WHERE j > 0) OVER (PARTITION BY grp)
sum(j) OVER (PARTITION BY grp ORDER BY id)
sum(j) OVER (PARTITION BY grp ORDER BY j)
avg(j) OVER (PARTITION BY grp ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
avg(p) OVER (PARTITION BY grp)
min(s) OVER (PARTITION BY grp)
max(ts) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)
stddev(p) OVER (PARTITION BY grp)
p - avg(p) OVER (PARTITION BY grp)
bool_or(b) OVER (PARTITION BY grp)
""".strip().splitlines()
"""Expressions over one row, or over its neighbours by a window."""

AGGREGATES = """
count(*)
count(x)
count(DISTINCT j)
count(DISTINCT s)
count(DISTINCT x)
count(*) FILTER (WHERE j > 0)
count(DISTINCT j) FILTER (WHERE b)
count_if(j > 0)
count_if(j > 0) FILTER (WHERE b)
sum(j)
sum(p)
sum(CASE WHEN b THEN 1 ELSE 0 END)
sum(j) FILTER (WHERE j > 0)
avg(j)
avg(p)
mean(p)
avg(j) FILTER (WHERE b)
sum(j) / count(*)
min(x)
max(x)
min(s)
max(s)
min(d)
max(ts)
min(b)
bool_and(b)
bool_or(b)
median(j)
median(p)
quantile_cont(p, 0.25)
quantile_cont(j, 0.9)
stddev(p)
stddev_samp(j)
stddev_pop(p)
var_samp(p)
variance(p)
var_pop(j)
max(i) - min(i)
round(avg(p), 2)
date_diff('day', min(d), max(d))
coalesce(sum(j), 0)
""".strip().splitlines()

QUERIES = {
    "distinct": "SELECT DISTINCT grp AS id, b FROM landed",
    "star": "SELECT * FROM landed",
    "star without and with another": "SELECT * EXCLUDE (x, y) REPLACE (i + 1 AS i), x AS xx FROM landed",
    "star of a table": "SELECT l.* FROM landed AS l",
    "names keep the case of the table": "SELECT ID, mixedcase, MIXEDCASE AS other FROM landed",
    "aliases are reused": "SELECT id, coalesce(j, 0) + 1 AS more, more * 2 AS twice FROM landed WHERE more > 1",
    "a column comes before an alias of its name": "SELECT id, abs(j) AS j, j IS NULL AS none FROM landed WHERE j > 0",
    "where with nulls": "SELECT id FROM landed WHERE NOT (j > 0 AND b) OR s = 'a'",
    "group by expression": "SELECT id % 7 AS rest, count(*) AS times FROM landed GROUP BY id % 7",
    "group by alias": "SELECT coalesce(grp, 'none') AS g, count(*) AS id FROM landed GROUP BY g",
    "group by place": "SELECT grp AS id, b, count(*) AS n FROM landed GROUP BY 1, 2",
    "group by all": "SELECT coalesce(grp, '-') AS id, year(ts) AS y, sum(j) AS n FROM landed GROUP BY ALL",
    "group by a double": "SELECT min(id) AS id, x, count(*) AS n FROM landed GROUP BY x",
    "having": "SELECT grp AS id, count(*) AS times FROM landed GROUP BY grp HAVING count(*) > 70 AND times < 1000",
    "qualify": "SELECT id, grp, x FROM landed QUALIFY row_number() OVER (PARTITION BY grp ORDER BY x DESC, id) = 1",
    "qualify alias": "SELECT id, rank() OVER (PARTITION BY grp ORDER BY x, id) AS r FROM landed QUALIFY r < 3",
    "distinct after qualify": "SELECT DISTINCT b FROM landed QUALIFY rank() OVER (PARTITION BY grp ORDER BY id) < 9",
    "cte": "WITH recent AS (SELECT id, ts FROM landed WHERE ts > '2000-01-01') SELECT id, hour(ts) AS h FROM recent",
    "cte of a cte": "WITH a AS (SELECT id, j FROM landed), b AS (SELECT id, j + 1 AS k FROM a) SELECT id, k FROM b",
    "subquery": "SELECT id, k * 2 AS k FROM (SELECT id, j + 1 AS k FROM landed WHERE j IS NOT NULL) AS q",
    "join": "WITH g AS (SELECT grp, avg(p) AS mean FROM landed GROUP BY grp) "
            "SELECT l.id, l.p - g.mean AS above FROM landed l JOIN g ON l.grp = g.grp",
    "left join": "WITH g AS (SELECT word, count(*) AS n FROM landed WHERE word < 'N' GROUP BY word) "
                 "SELECT l.id, coalesce(g.n, 0) AS n, g.n IS NULL AS none FROM landed l LEFT JOIN g ON l.word = g.word",
    "cross join": "WITH o AS (SELECT max(p) AS most FROM landed) SELECT id, p / most AS share FROM landed, o",
    "order does nothing": "SELECT id, x FROM landed ORDER BY x DESC",
    "window over groups": "SELECT grp AS id, count(*) AS n, sum(count(*)) OVER () AS of FROM landed GROUP BY grp",
    "comments": "-- what\nSELECT id, /* why */ i FROM landed -- where\nWHERE i > 0;",
    "text with a comment in it": "SELECT id, '-- no comment' AS c, '/* none */' AS k FROM landed",
    "from first": "FROM landed SELECT id, i",
}  # fmt: skip

CHUNK = 40


@pytest.fixture(scope="module")
def engines(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    found = Engines(spark, tmp_path_factory.mktemp("engines"))
    found.land(awkward_rows())
    return found


@pytest.fixture(scope="module")
def answers(engines: Engines) -> dict[str, tuple[list[Any], str | None, list[Any], str | None]]:
    """What both engines say to every expression: values and type. For Spark a query costs more than a column."""
    found: dict[str, tuple[list[Any], str | None, list[Any], str | None]] = {}
    for pool, tail in ((EXPRESSIONS, ""), (AGGREGATES, " GROUP BY grp")):
        key = "id" if not tail else "coalesce(grp, '-') AS id"
        for start in range(0, len(pool), CHUNK):
            chunk = pool[start : start + CHUNK]
            picked = ", ".join(f"{expression} AS c{n}" for n, expression in enumerate(chunk))
            sql = f"SELECT {key}, {picked} FROM landed{tail}"
            (duck, duck_types), (spark, spark_types) = engines.on_duck(sql), engines.on_spark(sql)
            assert [row["id"] for row in duck] == [row["id"] for row in spark]
            for n, expression in enumerate(chunk):
                name = f"c{n}"
                found[expression] = (
                    [row[name] for row in duck], duck_types[name], [row[name] for row in spark], spark_types[name],
                )  # fmt: skip
    return found


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *AGGREGATES])
def test_an_expression_gives_the_same_on_both_engines(
    answers: dict[str, tuple[list[Any], str | None, list[Any], str | None]], expression: str
) -> None:
    duck, duck_type, spark, spark_type = answers[expression]
    different = [(n, a, b) for n, (a, b) in enumerate(zip(duck, spark, strict=True)) if not same(a, b)]
    assert different == []
    assert duck_type == spark_type


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_gives_the_same_rows_on_both_engines(engines: Engines, name: str) -> None:
    sql = QUERIES[name]
    key = next(iter(to_spark(sql, LANDED).columns), "id")
    (duck, duck_types), (spark, spark_types) = engines.on_duck(sql, key), engines.on_spark(sql, key)

    def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: [repr(value) for value in row.values()])

    assert list(duck_types) == list(spark_types)
    assert duck_types == spark_types
    assert len(duck) == len(spark)
    for ours, theirs in zip(plain(duck), plain(spark), strict=True):
        assert all(same(ours[column], theirs[column]) for column in ours), (ours, theirs)


def test_every_proven_construct_has_a_case() -> None:
    cases = [f"SELECT {e} AS x FROM landed" for e in (*EXPRESSIONS, *AGGREGATES)] + list(QUERIES.values())
    shown = {name_of(node) for sql in cases for node in sqlglot.parse_one(sql, read=DIALECT).walk()}
    # A name that sqlglot gives the construct in other places only.
    assert PROVEN - shown == set()


def test_the_documentation_lists_every_function_that_is_proven() -> None:
    import re

    told = (ROOT / "docs/spark.md").read_text(encoding="utf-8").lower()
    text = re.sub(r"'[^']*'", "''", "\n".join([*EXPRESSIONS, *AGGREGATES]).lower())
    functions = set(re.findall(r"\b([a-z_0-9]+)\(", text)) - {"over", "in", "filter", "and", "or"}
    assert {name for name in functions if not re.search(rf"\b{name}\b", told)} == set()
