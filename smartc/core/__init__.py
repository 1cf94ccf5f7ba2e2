"""What everything else stands on: errors, records in JSON, files written whole, the version."""
