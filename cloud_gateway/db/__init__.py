"""The database: tables, migrations, the store that reads and writes, and what is deleted when it is old."""
