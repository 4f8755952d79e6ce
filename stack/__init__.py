"""The embedded default of what a production site already has: five real services."""
