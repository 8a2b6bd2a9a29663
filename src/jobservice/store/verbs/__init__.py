"""The verbs that write, in one piece for every store: what is read, what is decided, what is written."""
