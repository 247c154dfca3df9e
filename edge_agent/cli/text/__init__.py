"""How the commands write: languages, tables, times, the words of the local API."""
