"""Labels that say which channel every index of every axis carries, and the groups that they form."""
