"""From results to the files of the output directory."""
