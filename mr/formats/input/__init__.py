"""From input paths to splits, and from splits to records."""
