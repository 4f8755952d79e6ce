"""The data consumers' room: five charts and a static site, from the marts alone."""
