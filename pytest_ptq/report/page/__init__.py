"""What the HTML page shows, worked out from run records: values for a template, none of which knows any HTML."""
