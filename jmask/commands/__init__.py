"""What each subcommand does, one module each; imported only when it is called."""
