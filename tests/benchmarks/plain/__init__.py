"""The references of `whole_run`: the same training as anybody would write it, without fedvox's application.

`loop` is FedAvg in plain torch, in one process; `client_app` and `server_app` are an application of plain Flower after
its quick start (copied into a folder of its own with `flower_app.toml` as its pyproject.toml). Both share `task`.
"""
