"""Inputs to splits to records, and results to files. The only importer of fsspec."""
