"""The database: tables, migrations, the store that reads and writes, and the deletion of old rows."""
