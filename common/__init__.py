"""What every room shares: errors with a fix, settings, progress."""
