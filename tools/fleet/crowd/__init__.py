"""Very many machines as broker and gateway see them: connections, states, events and replies."""
