"""Networks, oracles and tables that several tests share."""
