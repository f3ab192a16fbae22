"""Reads an ITCH file with meatpy, and prints a line for each message: its type, its time, the values of its
fields as they follow in the message, and the message as meatpy writes it.
"""

import sys

from meatpy.itch50 import ITCH50MessageReader

for message in ITCH50MessageReader().read_file(sys.argv[1]):
    fields = dict(vars(message))
    time = fields.pop("timestamp")
    values = [v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in fields.values()]
    print("|".join([message.type.decode(), str(time), *values, message.to_bytes().hex()]))
