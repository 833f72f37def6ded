"""How instances find each other: fixed addresses, or Consul."""
