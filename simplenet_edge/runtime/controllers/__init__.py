"""Controllers that ask for parts and are told the verdicts, by a handshake; `open_controller` reads the address of each."""
