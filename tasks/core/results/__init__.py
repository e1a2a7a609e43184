"""What people get: tables, pictures, the record of a run, and a model to apply."""
