"""Which layer loses the socket."""
