"""Data sets in the form that others publish them in, turned into the Parquet files that :mod:`isograd.data` reads."""
