"""The arithmetic of federation: nine small parts, composed by `Federated`."""
