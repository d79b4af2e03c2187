"""Join of two inputs: each order with the name of its customer, by tagging records with their file."""

from pathlib import PurePath

import mr


def map_fn(offset, line):
    """Tag one record with the table it comes from: (customer, ("customer" or "order", fields))."""
    if PurePath(mr.input_path()).name.startswith("customers"):
        customer, name = line.split("\t")
        yield int(customer), ("customer", name)
    else:
        order, customer, amount = line.split("\t")
        yield int(customer), ("order", order, int(amount))


def reduce_fn(customer, records):
    """Give (customer, "name<TAB>order<TAB>amount") for each pair of a customer with an order (inner join)."""
    names = []
    orders = []
    for record in records:
        (names if record[0] == "customer" else orders).append(record)
    for _, name in names:
        for _, order, amount in orders:
            yield customer, f"{name}\t{order}\t{amount}"
