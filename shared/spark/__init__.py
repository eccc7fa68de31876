"""features.sql for Spark: a translation that is proven, construct by construct, to give what DuckDB gives."""
