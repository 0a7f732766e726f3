"""What people look at. Nothing here computes a number; it only shows those that `scoring` made."""
