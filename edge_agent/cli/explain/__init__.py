"""What alarms, statuses, events and error codes mean: the source of `edge-agent explain` and of pages."""
