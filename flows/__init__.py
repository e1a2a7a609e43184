"""The flow, and the command line that runs it."""
