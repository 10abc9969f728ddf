"""Reports of a sweep: a page, tables, pictures and figures for other programs."""
