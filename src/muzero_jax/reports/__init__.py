"""Statistics, figures, tables and pages of finished runs; this room knows files, not agents."""
