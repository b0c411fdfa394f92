"""Binary and structured stores that several formats share, decoded without executing anything."""
