"""The subcommands of `vimserve`, except `bench`."""
