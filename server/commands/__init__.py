"""What `vimserve` can be told to do, beside `bench`."""
