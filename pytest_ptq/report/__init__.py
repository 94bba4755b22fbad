"""What a person reads: header, table and the text of a failed gate."""
