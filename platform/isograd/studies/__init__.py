"""Reading finished runs and studies: tables, pictures, reports."""
