"""How fast a bundle is on this machine: engines and the whole way from camera image to verdict, in turns."""
