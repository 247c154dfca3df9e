"""Webhooks: the queue, the addresses that may be called, delivery with retries."""
