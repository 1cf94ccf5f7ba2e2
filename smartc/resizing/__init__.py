"""The result of a compile as a module of the user's own class: smaller layers, whose attributes follow."""
