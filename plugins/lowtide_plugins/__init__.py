"""What ships with Lowtide as plugins: all of it could have come from a third party, through the same entry points."""
