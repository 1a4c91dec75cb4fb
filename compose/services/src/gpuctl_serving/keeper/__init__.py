"""The keeper: holds an environment's public sockets and its instances. Standard library alone."""

#: The version of the messages on `run/keeper.sock`.
PROTOCOL = 1
