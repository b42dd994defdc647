"""The same requests to MLflow's own server and to Quarry, and what may differ."""
