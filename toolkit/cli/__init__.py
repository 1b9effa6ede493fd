"""The command line: the commands, their options, the demo, and the tree that `inspect` shows."""
