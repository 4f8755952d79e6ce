"""Query-based CDC: PostgreSQL tables into Iceberg staging, losing nothing.

manifest -> plan -> read -> land -> sweep -> reconcile. Pure parts (`manifest`,
`types`, `statements`, `bounds`) stand apart from the I/O (`postgres`, `engine`, `land`).
"""
