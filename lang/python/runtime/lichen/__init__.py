"""What Lichen offers to functions beyond their events: see docs/fifo.md."""
