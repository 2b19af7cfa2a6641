"""Arrays and tables to pictures and to the report's page."""
