"""The only floor that changes a host: hands over intents and follows them. Must not: render or plan."""
