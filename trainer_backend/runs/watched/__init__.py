"""What a worker leaves for those who watch it: its heartbeat and its log."""
