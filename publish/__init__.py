"""Safe publishing: build on an audit branch, test, fast-forward, roll back."""
