"""A fleet on one machine: hundreds of lockers against one broker and one gateway (`make fleet`)."""
