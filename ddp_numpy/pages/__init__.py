"""Pages for people, with pictures and tables: what reports of all kinds are made of."""
