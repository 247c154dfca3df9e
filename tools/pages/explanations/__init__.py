"""Writes alarms, statuses, events and error codes into the pages, from the texts of `edge-agent explain`."""
