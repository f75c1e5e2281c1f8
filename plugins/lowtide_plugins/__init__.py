"""What ships as plugins: a third party could provide all of it, through the same entry points."""
