"""What a reader wants to see of runs, made from their folders alone."""
