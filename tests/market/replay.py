"""Reads an ITCH file with meatpy, replays its orders, and prints the books as JSON.

Prices are in 1/10 000 dollars; a level is its price, shares and number of orders.
"""

import json
import sys

from meatpy.itch50 import ITCH50MessageReader

orders, symbols, messages = {}, {}, 0
for message in ITCH50MessageReader().read_file(sys.argv[1]):
    messages += 1
    kind = type(message).__name__
    if kind == "StockDirectoryMessage":
        symbols[message.stock_locate] = message.stock.decode().rstrip()
    elif kind in ("AddOrderMessage", "AddOrderMPIDMessage"):
        symbol = message.stock.decode().rstrip()
        assert symbols[message.stock_locate] == symbol
        assert message.order_ref not in orders
        side = {b"B": "bids", b"S": "asks"}[message.bsindicator]
        orders[message.order_ref] = [symbol, side, message.price, message.shares]
    elif kind in ("OrderExecutedMessage", "OrderExecutedPriceMessage", "OrderCancelMessage"):
        cancelled = kind == "OrderCancelMessage"
        orders[message.order_ref][3] -= message.canceled_shares if cancelled else message.shares
        assert orders[message.order_ref][3] >= 0
        if orders[message.order_ref][3] == 0:
            del orders[message.order_ref]
    elif kind == "OrderDeleteMessage":
        del orders[message.order_ref]
    elif kind == "OrderReplaceMessage":
        symbol, side, _, _ = orders.pop(message.original_ref)
        assert message.new_ref not in orders
        orders[message.new_ref] = [symbol, side, message.price, message.shares]

levels = {(symbol, side): {} for symbol in symbols.values() for side in ("bids", "asks")}
for symbol, side, price, shares in orders.values():
    level = levels[symbol, side].setdefault(price, [price, 0, 0])
    level[1] += shares
    level[2] += 1
books = {symbol: {} for symbol in symbols.values()}
for (symbol, side), side_levels in levels.items():
    ordered = sorted(side_levels.values(), reverse=side == "bids")
    books[symbol][side] = ordered
print(json.dumps({"messages": messages, "books": books}))
