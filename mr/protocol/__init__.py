"""What travels between processes and what it is called: ids, names, messages, records. Pure."""
