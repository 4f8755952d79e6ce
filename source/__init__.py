"""The source: the shop's schema, a believable shop, a day of change, the CSV door."""
