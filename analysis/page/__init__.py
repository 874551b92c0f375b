"""The report as a page: its sections, notes, tables and files."""
