"""The embedded model: catalogue, download, llama.cpp's server in a child process."""
